// What the kernels of `cuda.covariance` share: how P and its pending columns lie in memory.
//
//     P = s (A − Uᵀ U),  A in the tiles of its lower half, U the pending columns
//
// Compiled for REAL, double or float. A row of a tile is 512 bytes: one 16-byte load by each lane of a warp.
// What is added up in REAL is a few hundred products at most; other sums, K and H P Hᵀ are double in any case. No
// sum depends on the order in which blocks or threads run. ``status`` as in filter.cu.
//
// Letters: t tile of w (TILE weights), r, i its row, c, j its column; q measurement; k pending column.

#define LANE_COLUMNS (16 / (int)sizeof(REAL))
#define TILE (WARP * LANE_COLUMNS)
#define WARPS 8
#define PENDING 64

// columns of ``rows``, one line per tile t: first tile of P's row, first and last t of the block, weights
enum { FIRST_TILE, FIRST_T, LAST_T, W0, W1, ROW_COLUMNS };
// columns of ``strips``: tiles c0 ≤ c < c1 of row t
enum { STRIP_T, C0, C1, STRIP_COLUMNS };
// columns of ``segments``: tiles t0 ≤ t < t1 of one block
enum { T0, T1, SEGMENT_COLUMNS };

struct alignas(16) Vector { REAL x[LANE_COLUMNS]; };

// Z[k, q] = Σ_t U_kt x_tq over the tiles of a segment, a warp per pending column, N right-hand sides at a time.
template <int WIDTH, int N = (WIDTH < 8 ? WIDTH : 8)>
__device__ __forceinline__ void pending_sums(
    const REAL *pending, int n_k, const REAL *X, const int *segment, double *Z) {
  const int lane = threadIdx.x % WARP;
  for (int k = threadIdx.x / WARP; k < n_k; k += WARPS)
    for (int q0 = 0; q0 < WIDTH; q0 += N) {
      double z[N];
      for (int q = 0; q < N; q++) z[q] = 0;
      for (int t = segment[T0]; t < segment[T1]; t++) {
        const REAL *u = pending + ((long long)t * PENDING + k) * TILE, *x = X + ((long long)t * WIDTH + q0) * TILE;
        REAL s[N];
#pragma unroll
        for (int q = 0; q < N; q++) s[q] = 0;
        for (int j = lane; j < TILE; j += WARP)
#pragma unroll
          for (int q = 0; q < N; q++) s[q] += u[j] * x[q * TILE + j];
#pragma unroll
        for (int q = 0; q < N; q++) z[q] += s[q];
      }
#pragma unroll
      for (int q = 0; q < N; q++) {
        const double sum = warp_sum(z[q]);
        if (lane == 0) Z[k * WIDTH + q0 + q] = sum;
      }
    }
}
