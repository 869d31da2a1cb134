// What all kernels share: the warp's and the block's sums, in an order that depends on nothing.

#define WARP 32
#define FULL 0xffffffffu

// Sum of x over the lanes of a warp, in lane 0: a tree of shuffles.
__device__ __forceinline__ double warp_sum(double x) {
  for (int d = WARP / 2; d > 0; d /= 2) x += __shfl_down_sync(FULL, x, d);
  return x;
}

// Sum of x over a block of n threads (a multiple of WARP, at most 1024), in thread 0.
__device__ __forceinline__ double block_sum(double x) {
  __shared__ double parts[WARP];
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  x = warp_sum(x);
  __syncthreads();  // parts may still be read from an earlier call
  if (lane == 0) parts[warp] = x;
  __syncthreads();
  if (warp == 0) x = warp_sum(lane < (int)blockDim.x / WARP ? parts[lane] : 0.0);
  return x;
}

// The number of this thread's warp in the whole grid. Threads themselves may be more than 32 bits can count.
__device__ __forceinline__ int warp_number() {
  return (int)(blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP);
}

__device__ __forceinline__ bool is_finite(double x) { return x - x == 0.0; }

// out[x] = Σ_n parts[n, x].  grid: columns x; block: a multiple of WARP
extern "C" __global__ void sum_parts(const double *parts, int n, int columns, double *out) {
  double s = 0;
  for (int k = threadIdx.x; k < n; k += blockDim.x) s += parts[(long long)k * columns + blockIdx.x];
  s = block_sum(s);
  if (threadIdx.x == 0) out[blockIdx.x] = s;
}

// out[f, x] = Σ values[i, x] over first[f] ≤ i < first[f + 1].  grid: (pieces f, columns x); block: a multiple
// of WARP
extern "C" __global__ void piece_sums(const double *values, const int *first, int columns, double *out) {
  double sum = 0;
  for (int i = first[blockIdx.x] + threadIdx.x; i < first[blockIdx.x + 1]; i += blockDim.x)
    sum += values[(long long)i * columns + blockIdx.y];
  sum = block_sum(sum);
  if (threadIdx.x == 0) out[(long long)blockIdx.x * columns + blockIdx.y] = sum;
}
