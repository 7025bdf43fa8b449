// The plain form, for any CPU.
#include "simd_serial.h"
#include "table_of.h"

namespace vilamp {

const KernelTable kSerialTable = {"serial",
                                  kernels_of<serial::Simd<float>, float>(),
                                  kernels_of<serial::Simd<double>, double>(),
                                  kernels_of<serial::Simd<float>, BFloat16>(),
                                  kernels_of<serial::Simd<float>, Float16>(),
                                  nullptr};

}  // namespace vilamp
