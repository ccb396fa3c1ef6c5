// Compiled once per variant, with the macros and compiler flags of build_backend.py.
#include "encoder.h"

#define INT8_TEXT_OF(name) #name
#define INT8_TEXT(name) INT8_TEXT_OF(name)

namespace INT8_VARIANT {

static_assert(WIDTH_STEP % PANEL == 0 && HEAD_STEP % (2 * W) == 0, "no ragged edges");

extern const Variant TABLE;
const Variant TABLE = {INT8_TEXT(INT8_VARIANT), PANEL, scratch_bytes, forward};

}  // namespace INT8_VARIANT
