// Which variants were compiled, and which of them this processor runs.
#include "variant.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

#if defined(__x86_64__)

namespace portable { extern const Variant TABLE; }
namespace avx2 { extern const Variant TABLE; }
namespace avx2_vnni { extern const Variant TABLE; }
namespace avx512 { extern const Variant TABLE; }
namespace avx512_vnni { extern const Variant TABLE; }
namespace avx512_bf16 { extern const Variant TABLE; }

const Variant* const VARIANTS[] = {&avx512_bf16::TABLE, &avx512_vnni::TABLE, &avx2_vnni::TABLE,
                                   &avx512::TABLE,      &avx2::TABLE,        &portable::TABLE};
const int N_VARIANTS = 6;

namespace {

enum Feature { AVX2 = 1, AVX2_VNNI = 2, AVX512 = 4, AVX512_VNNI = 8, AVX512_BF16 = 16 };
const int NEEDS[] = {AVX512 | AVX512_VNNI | AVX512_BF16, AVX512 | AVX512_VNNI, AVX2 | AVX2_VNNI, AVX512, AVX2, 0};

bool bit(unsigned word, int number) { return word >> number & 1; }

// Bits by Intel's manual, volume 2A, CPUID. What the operating system saves (XCR0) counts as well as what there is.
int features() {
    unsigned a, b, c, d, found = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !bit(c, 27)) return 0;  // OSXSAVE
    const bool fma = bit(c, 12), f16c = bit(c, 29);
    unsigned saved, high;
    __asm__("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
    if ((saved & 0x06) != 0x06 || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;  // SSE and AVX registers
    if (bit(b, 5) && fma && f16c) found |= AVX2;
    const bool f_dq_bw_vl = bit(b, 16) && bit(b, 17) && bit(b, 30) && bit(b, 31);
    const bool vnni = bit(c, 11);
    if ((saved & 0xe6) == 0xe6 && f_dq_bw_vl && (found & AVX2)) found |= AVX512;  // and the 512-bit ones
    if ((found & AVX512) && vnni) found |= AVX512_VNNI;
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d)) {
        if (bit(a, 4)) found |= AVX2_VNNI;
        if ((found & AVX512) && bit(a, 5)) found |= AVX512_BF16;
    }
#if INT8_EVEX_FOR_TESTS
    if (found & AVX512_VNNI) found |= AVX2_VNNI;
#endif
    return (int)found;
}

}  // namespace

#elif defined(__aarch64__)

namespace portable { extern const Variant TABLE; }
namespace neon_dotprod { extern const Variant TABLE; }
namespace neon_i8mm { extern const Variant TABLE; }

const Variant* const VARIANTS[] = {&neon_i8mm::TABLE, &neon_dotprod::TABLE, &portable::TABLE};
const int N_VARIANTS = 3;

namespace {

enum Feature { DOTPROD = 1, I8MM = 2 };
const int NEEDS[] = {I8MM, DOTPROD, 0};

// By the kernel's arch/arm64/include/uapi/asm/hwcap.h.
int features() {
    const unsigned long first = getauxval(AT_HWCAP), second = getauxval(AT_HWCAP2);
    return (int)((first >> 20 & 1) * DOTPROD + (second >> 13 & 1) * I8MM);
}

}  // namespace

#else

namespace portable { extern const Variant TABLE; }
const Variant* const VARIANTS[] = {&portable::TABLE};
const int N_VARIANTS = 1;

namespace {
const int NEEDS[] = {0};
int features() { return 0; }
}  // namespace

#endif

// Asked once, when the library is loaded: to ask a virtual machine's processor takes longer than a layer.
static const int FEATURES = features();

bool runs_here(int variant) {
    return variant >= 0 && variant < N_VARIANTS && (NEEDS[variant] & ~FEATURES) == 0;
}
