// Kernels of `cuda_covariance`: P = s (A − Uᵀ U), A in lower-half tiles, U the pending columns.
//
// Compiled for REAL (double or float) and RHS, the right-hand sides that go through P together.
// A row of a tile is 512 bytes: one 16-byte load by each lane of a warp. Sums over tiles, K and
// H P Hᵀ are double in any case. No sum depends on the order in which blocks or threads run.
//
// Letters: t tile of w (TILE weights), r, i its row, j its column; q measurement; k pending column.

#define LANE_COLUMNS (16 / (int)sizeof(REAL))
#define TILE (WARP * LANE_COLUMNS)
#define WARPS 8
#define TILE_ROWS (TILE / WARPS)  // of one warp
#define PENDING 32
#define MICRO (TILE / 16)

// columns of ``rows``, one line per tile t: first tile of P's row, first and last t of the block, weights
enum { FIRST_TILE, FIRST_T, LAST_T, W0, W1, ROW_COLUMNS };
// columns of ``strips``: tiles c0 ≤ c < c1 of row t
enum { STRIP_T, C0, C1, STRIP_COLUMNS };
// columns of ``segments``: tiles t0 ≤ t < t1 of one block
enum { T0, T1, SEGMENT_COLUMNS };

struct alignas(16) Vector { REAL x[LANE_COLUMNS]; };

// tiled[t, k0 + q, j] = factor · M[q, w]: rows of weights cut into tiles, zeros at the ends of blocks.
// Skipped if something went wrong before. grid: tiles of w; block: TILE threads
extern "C" __global__ void pack(
    REAL *tiled, int width, int k0, const double *M_qw, int m, int N, double factor, const int *rows,
    const int *status) {
  const int t = blockIdx.x, j = threadIdx.x;
  if (*status) return;
  const int *row = rows + ROW_COLUMNS * t;
  const int w = row[W0] + j;
  for (int q = 0; q < m; q++)
    tiled[((long long)t * width + k0 + q) * TILE + j] =
        w < row[W1] ? (REAL)(factor * M_qw[(long long)q * N + w]) : (REAL)0;
}

// y_r += A_rc x_c and y_c += A_rcᵀ x_r: each tile is read once and used twice.
// A block takes a strip of one tile row; row_sums[strip, q, i], column_sums[tile, q, j].
// Blocks beyond the strips take a segment of the pending columns: Z[segment, k, q] = Σ U x.
extern "C" __global__ void __launch_bounds__(WARPS * WARP) multiply(
    const REAL *tiles, const REAL *pending, int n_k, const REAL *X, const int *rows, const int *strips,
    int n_strips, const int *segments, double *row_sums, double *column_sums, double *Z_parts) {
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  if ((int)blockIdx.x >= n_strips) {
    const int g = blockIdx.x - n_strips;
    const int *segment = segments + SEGMENT_COLUMNS * g;
    for (int k = warp; k < n_k; k += WARPS)
      for (int q = 0; q < RHS; q++) {
        double z = 0;
        for (int t = segment[T0]; t < segment[T1]; t++) {
          const REAL *u = pending + ((long long)t * PENDING + k) * TILE, *x = X + ((long long)t * RHS + q) * TILE;
          REAL s = 0;
          for (int j = lane; j < TILE; j += WARP) s += u[j] * x[j];
          z += s;
        }
        z = warp_sum(z);
        if (lane == 0) Z_parts[((long long)g * PENDING + k) * RHS + q] = z;
      }
    return;
  }
  __shared__ REAL x_r[RHS][TILE];
  __shared__ REAL columns[WARPS][RHS][TILE];
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
    __syncthreads();
  }
#pragma unroll
  for (int q = 0; q < RHS; q++)
#pragma unroll
    for (int i = 0; i < TILE_ROWS; i++) {
      const double y = warp_sum(y_r[q][i]);
      if (lane == 0) row_sums[((long long)blockIdx.x * RHS + q) * TILE + warp * TILE_ROWS + i] = y;
    }
}

// K = s (A x − Uᵀ Z): the strips of row t, then the columns of the rows below it, then pending columns.
// grid: tiles of w; block: GROUPS · TILE threads, which share the terms and add up in their order
#define GROUPS 4
extern "C" __global__ void __launch_bounds__(GROUPS * TILE) gather(
    const REAL *pending, int n_k, double scale, const int *rows, const int *first_strip,
    const int *tile_segments, const double *row_sums, const double *column_sums, const double *Z_parts,
    int m, int N, double *K_qw) {
  __shared__ double parts[GROUPS][TILE];
  __shared__ double Z[PENDING];
  const int t = blockIdx.x, j = threadIdx.x % TILE, group = threadIdx.x / TILE;
  const int *row = rows + ROW_COLUMNS * t;
  for (int q = 0; q < m; q++) {
    for (int k = threadIdx.x; k < n_k; k += GROUPS * TILE) {
      double z = 0;
      for (int g = tile_segments[2 * t]; g < tile_segments[2 * t + 1]; g++) z += Z_parts[((long long)g * PENDING + k) * RHS + q];
      Z[k] = z;
    }
    __syncthreads();
    double y = 0;
    for (int s = first_strip[t] + group; s < first_strip[t + 1]; s += GROUPS) y += row_sums[((long long)s * RHS + q) * TILE + j];
    for (int r = t + 1 + group; r <= row[LAST_T]; r += GROUPS) {
      const long long tile = rows[ROW_COLUMNS * r + FIRST_TILE] + t - row[FIRST_T];
      y += column_sums[(tile * RHS + q) * TILE + j];
    }
    for (int k = group; k < n_k; k += GROUPS) y -= Z[k] * pending[((long long)t * PENDING + k) * TILE + j];
    parts[group][j] = y;
    __syncthreads();
    if (group == 0 && row[W0] + j < row[W1]) {
      for (int g = 1; g < GROUPS; g++) y += parts[g][j];
      K_qw[(long long)q * N + row[W0] + j] = scale * y;
    }
    __syncthreads();
  }
}

// parts[t, q, p] = Σ_{w in tile t} H_qw K_pw.  grid: tiles of w; block: WARPS warps, a pair (q, p) each
extern "C" __global__ void gram(
    const double *H_qw, const double *K_qw, int m, int N, const int *rows, double *parts) {
  const int t = blockIdx.x, lane = threadIdx.x % WARP;
  const int *row = rows + ROW_COLUMNS * t;
  for (int pair = threadIdx.x / WARP; pair < m * m; pair += WARPS) {
    const double *h = H_qw + (long long)(pair / m) * N, *k = K_qw + (long long)(pair % m) * N;
    double s = 0;
    for (int w = row[W0] + lane; w < row[W1]; w += WARP) s += h[w] * k[w];
    s = warp_sum(s);
    if (lane == 0) parts[(long long)t * m * m + pair] = s;
  }
}

// G = C⁻¹ K by forward substitution, in place: G_q = (K_q − Σ_{p<q} C_qp G_p)/C_qq.  a thread per weight
extern "C" __global__ void whiten(double *K_qw, const double *C_qq, int m, int N) {
  const int w = blockIdx.x * blockDim.x + threadIdx.x;
  if (w >= N) return;
  for (int q = 0; q < m; q++) {
    double y = K_qw[(long long)q * N + w];
    for (int p = 0; p < q; p++) y -= C_qq[q * m + p] * K_qw[(long long)p * N + w];
    K_qw[(long long)q * N + w] = y * (1.0 / C_qq[q * m + q]);
  }
}

// A ← s (A − UᵀU).  grid: tiles of P; block: 16 · 16 threads with MICRO · MICRO numbers each
extern "C" __global__ void __launch_bounds__(256) fold(
    REAL *tiles, const REAL *pending, int n_k, double scale, const int *tile_rows, const int *rows,
    const int *status) {
  __shared__ REAL u_r[PENDING][TILE], u_c[PENDING][TILE];
  if (*status) return;
  const int r = tile_rows[blockIdx.x];
  const int *row = rows + ROW_COLUMNS * r;
  const int c = (int)blockIdx.x - row[FIRST_TILE] + row[FIRST_T];
  for (int x = threadIdx.x; x < n_k * TILE; x += 256) {
    u_r[x / TILE][x % TILE] = pending[(long long)r * PENDING * TILE + x];
    u_c[x / TILE][x % TILE] = pending[(long long)c * PENDING * TILE + x];
  }
  __syncthreads();
  const int i0 = threadIdx.x / 16, j0 = threadIdx.x % 16;
  REAL s[MICRO][MICRO];
#pragma unroll
  for (int i = 0; i < MICRO; i++)
#pragma unroll
    for (int j = 0; j < MICRO; j++) s[i][j] = 0;
  for (int k = 0; k < n_k; k++) {
    REAL a[MICRO], b[MICRO];
#pragma unroll
    for (int i = 0; i < MICRO; i++) a[i] = u_r[k][i0 + 16 * i], b[i] = u_c[k][j0 + 16 * i];
#pragma unroll
    for (int i = 0; i < MICRO; i++)
#pragma unroll
      for (int j = 0; j < MICRO; j++) s[i][j] += a[i] * b[j];
  }
  REAL *tile = tiles + (long long)blockIdx.x * TILE * TILE;
#pragma unroll
  for (int i = 0; i < MICRO; i++)
#pragma unroll
    for (int j = 0; j < MICRO; j++) {
      REAL *p = tile + (i0 + 16 * i) * TILE + j0 + 16 * j;
      *p = (REAL)scale * (*p - s[i][j]);
    }
}
