// A x for RHS right-hand sides, 1 to 8, at the price of one read of half of A. Compiled for REAL and RHS.

#define TILE_ROWS (TILE / WARPS)  // of one warp
// sums of columns lie in turn in two places, if there is room: a warp may then begin with the next tile while
// those of the last one are added up
#define PLACES (RHS <= 2 ? 2 : 1)

// y_r += A_rc x_c and y_c += A_rcᵀ x_r: each tile is read once and used twice.
// A block takes a strip of one tile row; row_sums[strip, q, i], column_sums[tile, q, j].
// Blocks beyond the strips take a segment of the pending columns: Z[segment, k, q] = Σ U x.
extern "C" __global__ void __launch_bounds__(WARPS * WARP) multiply(
    const REAL *tiles, const REAL *pending, int n_k, const REAL *X, const int *rows, const int *strips,
    int n_strips, const int *segments, double *row_sums, double *column_sums, double *Z_parts) {
  if ((int)blockIdx.x >= n_strips) {
    const int g = blockIdx.x - n_strips;
    pending_sums<RHS>(pending, n_k, X, segments + SEGMENT_COLUMNS * g, Z_parts + (long long)g * PENDING * RHS);
    return;
  }
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  __shared__ REAL x_r[RHS][TILE];
  __shared__ REAL columns_of[PLACES][WARPS][RHS][TILE];
  const int *strip = strips + STRIP_COLUMNS * blockIdx.x;
  const int r = strip[STRIP_T];
  const int *row = rows + ROW_COLUMNS * r;
  for (int x = threadIdx.x; x < RHS * TILE; x += WARPS * WARP) x_r[x / TILE][x % TILE] = X[(long long)r * RHS * TILE + x];
  __syncthreads();
  REAL y_r[RHS][TILE_ROWS];
#pragma unroll
  for (int q = 0; q < RHS; q++)
#pragma unroll
    for (int i = 0; i < TILE_ROWS; i++) y_r[q][i] = 0;
  for (int c = strip[C0]; c < strip[C1]; c++) {
    const long long tile = row[FIRST_TILE] + c - row[FIRST_T];
    const Vector *a = (const Vector *)(tiles + tile * TILE * TILE) + warp * TILE_ROWS * WARP + lane;
    Vector x_c[RHS], y_c[RHS];
#pragma unroll
    for (int q = 0; q < RHS; q++) {
      x_c[q] = ((const Vector *)(X + ((long long)c * RHS + q) * TILE))[lane];
      y_c[q] = Vector();
    }
#pragma unroll
    for (int i0 = 0; i0 < TILE_ROWS; i0 += 8) {
      Vector rows_of_a[8];  // eight loads in flight before the first is used
#pragma unroll
      for (int i = 0; i < 8; i++) rows_of_a[i] = a[(i0 + i) * WARP];
#pragma unroll
      for (int i = 0; i < 8; i++)
#pragma unroll
        for (int q = 0; q < RHS; q++) {
          const REAL x = x_r[q][warp * TILE_ROWS + i0 + i];
#pragma unroll
          for (int v = 0; v < LANE_COLUMNS; v++) {
            y_r[q][i0 + i] += rows_of_a[i].x[v] * x_c[q].x[v];
            y_c[q].x[v] += rows_of_a[i].x[v] * x;
          }
        }
    }
    if (c == r) break;  // a diagonal tile is stored whole; it is the last of its row
    REAL(*columns)[RHS][TILE] = columns_of[c % PLACES];
#pragma unroll
    for (int q = 0; q < RHS; q++)
#pragma unroll
      for (int v = 0; v < LANE_COLUMNS; v++) columns[warp][q][LANE_COLUMNS * lane + v] = y_c[q].x[v];
    __syncthreads();
    for (int x = threadIdx.x; x < RHS * TILE; x += WARPS * WARP) {
      double sum = 0;
      for (int n = 0; n < WARPS; n++) sum += columns[n][x / TILE][x % TILE];
      column_sums[tile * RHS * TILE + x] = sum;
    }
    if (PLACES == 1) __syncthreads();
  }
#pragma unroll
  for (int q = 0; q < RHS; q++)
#pragma unroll
    for (int i = 0; i < TILE_ROWS; i++) {
      const double y = warp_sum(y_r[q][i]);
      if (lane == 0) row_sums[((long long)blockIdx.x * RHS + q) * TILE + warp * TILE_ROWS + i] = y;
    }
}
