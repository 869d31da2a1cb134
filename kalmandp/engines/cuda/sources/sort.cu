// Kernels of `cuda.sort`: numbers 0 … n−1 in the order of small integer keys, those with equal keys in theirs.
//
// Numbers are cut into chunks. How many of each key every chunk has is counted and summed up, key by key; that
// says where the first of a key from a chunk goes, and the others follow it in their order.

#define CHUNK 1024
#define BLOCK 256

// counts[key, chunk], zero before.  a block per chunk
extern "C" __global__ void count_keys(const int *key_n, int n, int n_chunks, int *counts) {
  for (int k = blockIdx.x * CHUNK + threadIdx.x; k < n && k < (blockIdx.x + 1) * CHUNK; k += BLOCK)
    atomicAdd(counts + (long long)key_n[k] * n_chunks + blockIdx.x, 1);
}

// order[place] = number; ``last`` is the running sum of counts.  a block per chunk
extern "C" __global__ void place_keys(
    const int *key_n, int n, int n_chunks, const int *counts, const int *last, int *order_n) {
  __shared__ int keys[CHUNK];
  const int begin = blockIdx.x * CHUNK, end = begin + CHUNK < n ? begin + CHUNK : n;
  for (int k = begin + threadIdx.x; k < end; k += BLOCK) keys[k - begin] = key_n[k];
  __syncthreads();
  for (int k = begin + threadIdx.x; k < end; k += BLOCK) {
    const int key = keys[k - begin];
    const long long at = (long long)key * n_chunks + blockIdx.x;
    int place = last[at] - counts[at];
    for (int before = 0; before < k - begin; before++) place += keys[before] == key;
    order_n[place] = k;
  }
}
