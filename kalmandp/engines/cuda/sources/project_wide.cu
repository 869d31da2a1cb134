// A x for RHS right-hand sides, 16, 32 or 64: a matrix product from shared memory. Compiled for REAL and RHS.
//
// Each tile of the lower half is read twice, for its row and, transposed, for its column; with so many
// right-hand sides arithmetic takes longer than that, and there is no sum per tile to write and to read.

#define BLOCK (WARPS * WARP)
#define SIDE 16  // threads along the rows of a tile, and as many along the right-hand sides
#define ROWS (TILE / SIDE)
#define COLUMNS (RHS / SIDE)
#define LINE 8                         // vectors in a line of memory, 128 bytes
#define DEPTH (LINE * LANE_COLUMNS)    // columns of A that are multiplied at a time
#define SLABS (TILE / DEPTH)           // of a tile
#define A_PARTS (TILE * LINE / BLOCK)  // vectors that a thread brings
#define X_PARTS ((RHS * LINE + BLOCK - 1) / BLOCK)

// DEPTH columns j of A, and the same rows of x, on their way to shared memory
struct Slab {
  Vector a[A_PARTS], x[X_PARTS];
  bool upright;  // the tile as it is stored; otherwise transposed

  __device__ __forceinline__ void fetch(const REAL *tiles, const REAL *X, const int *rows, int r, int slab) {
    const int c = slab / SLABS, j0 = slab % SLABS * DEPTH;
    upright = c <= r;
    const int *row = rows + ROW_COLUMNS * (upright ? r : c);
    const REAL *tile = tiles + (long long)(row[FIRST_TILE] + (upright ? c : r) - row[FIRST_T]) * TILE * TILE;
#pragma unroll
    for (int part = 0; part < A_PARTS; part++) {
      const int v = threadIdx.x + part * BLOCK;
      const int at = upright ? v / LINE * TILE + j0 + v % LINE * LANE_COLUMNS
                             : (j0 + v / WARP) * TILE + v % WARP * LANE_COLUMNS;
      a[part] = *(const Vector *)(tile + at);
    }
#pragma unroll
    for (int part = 0; part < X_PARTS; part++) {
      const int v = threadIdx.x + part * BLOCK, q = v / LINE;
      if (q < RHS) x[part] = *(const Vector *)(X + ((long long)c * RHS + q) * TILE + j0 + v % LINE * LANE_COLUMNS);
    }
  }

  __device__ __forceinline__ void store(REAL (*A_ji)[TILE + LANE_COLUMNS], REAL (*x_jq)[RHS + LANE_COLUMNS]) const {
#pragma unroll
    for (int part = 0; part < A_PARTS; part++) {
      const int v = threadIdx.x + part * BLOCK;
#pragma unroll
      for (int e = 0; e < LANE_COLUMNS; e++)
        if (upright) A_ji[v % LINE * LANE_COLUMNS + e][v / LINE] = a[part].x[e];
        else A_ji[v / WARP][v % WARP * LANE_COLUMNS + e] = a[part].x[e];
    }
#pragma unroll
    for (int part = 0; part < X_PARTS; part++) {
      const int v = threadIdx.x + part * BLOCK, q = v / LINE;
#pragma unroll
      for (int e = 0; e < LANE_COLUMNS; e++)
        if (q < RHS) x_jq[v % LINE * LANE_COLUMNS + e][q] = x[part].x[e];
    }
  }
};

// row_sums[strip, q, i] = Σ_c A_rc x_c over the strip c0 ≤ c < c1 of the whole row r; for c > r, A_rc = A_crᵀ.
// Blocks beyond the strips take a segment of the pending columns: Z[segment, k, q] = Σ U x.
extern "C" __global__ void __launch_bounds__(BLOCK) multiply(
    const REAL *tiles, const REAL *pending, int n_k, const REAL *X, const int *rows, const int *strips,
    int n_strips, const int *segments, double *row_sums, double *column_sums, double *Z_parts) {
  if ((int)blockIdx.x >= n_strips) {
    const int g = blockIdx.x - n_strips;
    pending_sums<RHS>(pending, n_k, X, segments + SEGMENT_COLUMNS * g, Z_parts + (long long)g * PENDING * RHS);
    return;
  }
  alignas(16) __shared__ REAL A_ji[DEPTH][TILE + LANE_COLUMNS], x_jq[DEPTH][RHS + LANE_COLUMNS];
  const int i0 = threadIdx.x % SIDE * ROWS, q0 = threadIdx.x / SIDE * COLUMNS;
  const int *strip = strips + STRIP_COLUMNS * blockIdx.x, r = strip[STRIP_T];
  const int first = strip[C0] * SLABS, last = strip[C1] * SLABS;
  REAL y[ROWS][COLUMNS] = {};  // of a tile
  double sum[ROWS][COLUMNS] = {};
  Slab slab;
  slab.fetch(tiles, X, rows, r, first);
  for (int s = first; s < last; s++) {
    __syncthreads();  // the slab before has been used
    slab.store(A_ji, x_jq);
    __syncthreads();
    if (s + 1 < last) slab.fetch(tiles, X, rows, r, s + 1);  // under way while this one is multiplied
#pragma unroll 4
    for (int j = 0; j < DEPTH; j++) {
      REAL a[ROWS], x[COLUMNS];
#pragma unroll
      for (int i = 0; i < ROWS; i++) a[i] = A_ji[j][i0 + i];
#pragma unroll
      for (int q = 0; q < COLUMNS; q++) x[q] = x_jq[j][q0 + q];
#pragma unroll
      for (int i = 0; i < ROWS; i++)
#pragma unroll
        for (int q = 0; q < COLUMNS; q++) y[i][q] += a[i] * x[q];
    }
    if ((s + 1) % SLABS) continue;
#pragma unroll
    for (int i = 0; i < ROWS; i++)
#pragma unroll
      for (int q = 0; q < COLUMNS; q++) sum[i][q] += y[i][q], y[i][q] = 0;
  }
#pragma unroll
  for (int q = 0; q < COLUMNS; q++)
#pragma unroll
    for (int i = 0; i < ROWS; i++)
      row_sums[((long long)blockIdx.x * RHS + q0 + q) * TILE + i0 + i] = sum[i][q];
}
