// Enough of CUDA to compile per-pixel kernels as C++: threads one after another, no barriers.
#include <math.h>
#include <stddef.h>
#define __global__
#define __device__
#define __noinline__ __attribute__((noinline))
struct Index { unsigned x, y, z; };
static thread_local Index threadIdx, blockIdx, blockDim, gridDim;
template <typename A>
static void launch(void (*kernel)(A), const void *arguments, unsigned grid_x, unsigned grid_y, unsigned block) {
    blockDim = {block, 1, 1};
    gridDim = {grid_x, grid_y, 1};
    for (blockIdx.y = 0; blockIdx.y < grid_y; ++blockIdx.y)
        for (blockIdx.x = 0; blockIdx.x < grid_x; ++blockIdx.x)
            for (threadIdx.x = 0; threadIdx.x < block; ++threadIdx.x) kernel(*static_cast<const A *>(arguments));
}
