// The vectors of the instruction set that this object is compiled for. build_backend.py sets the macros.
#pragma once
#include "model.h"

#ifndef INT8_VARIANT
#error "INT8_VARIANT, the name of this variant, must be defined"
#endif

#if INT8_AVX512
#include "simd_avx512.h"
#elif INT8_AVX2
#include "simd_avx2.h"
#elif INT8_NEON
#include "simd_neon.h"
#else
#include "simd_portable.h"
#endif
