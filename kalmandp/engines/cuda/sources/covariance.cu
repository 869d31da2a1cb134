// Kernels of `cuda.covariance` for which the number of right-hand sides does not matter. Compiled for REAL.

// tiled[t, k0 + q, j] = factor · M[q, w]: rows of weights cut into tiles, zeros at the ends of blocks, and in
// rows m ≤ q < written. Skipped if something went wrong before. grid: tiles of w; block: TILE threads
extern "C" __global__ void pack(
    REAL *tiled, int width, int k0, const double *M_qw, int m, int written, int N, double factor,
    const int *rows, const int *status) {
  const int t = blockIdx.x, j = threadIdx.x;
  if (*status) return;
  const int *row = rows + ROW_COLUMNS * t;
  const int w = row[W0] + j;
  for (int q = 0; q < written; q++)
    tiled[((long long)t * width + k0 + q) * TILE + j] =
        q < m && w < row[W1] ? (REAL)(factor * M_qw[(long long)q * N + w]) : (REAL)0;
}

// K = s (A x − Uᵀ Z): the strips of row t, then (where strips have the lower half alone) the columns of the
// rows below it, then pending columns. ``width`` right-hand sides lie in the sums, the first m are wanted.
// grid: tiles of w; block: GROUPS · TILE threads, which share the terms and add up in their order
#define GROUPS 4
extern "C" __global__ void __launch_bounds__(GROUPS * TILE) gather(
    const REAL *pending, int n_k, double scale, const int *rows, const int *first_strip,
    const int *tile_segments, const double *row_sums, const double *column_sums, const double *Z_parts,
    int halves, int width, int m, int N, double *K_qw) {
  __shared__ double parts[GROUPS][TILE];
  __shared__ double Z[PENDING];
  const int t = blockIdx.x, j = threadIdx.x % TILE, group = threadIdx.x / TILE;
  const int *row = rows + ROW_COLUMNS * t;
  for (int q = 0; q < m; q++) {
    for (int k = threadIdx.x; k < n_k; k += GROUPS * TILE) {
      double z = 0;
      for (int g = tile_segments[2 * t]; g < tile_segments[2 * t + 1]; g++) z += Z_parts[((long long)g * PENDING + k) * width + q];
      Z[k] = z;
    }
    __syncthreads();
    double y = 0;
    for (int s = first_strip[t] + group; s < first_strip[t + 1]; s += GROUPS) y += row_sums[((long long)s * width + q) * TILE + j];
    for (int r = t + 1 + group; halves && r <= row[LAST_T]; r += GROUPS) {
      const long long tile = rows[ROW_COLUMNS * r + FIRST_TILE] + t - row[FIRST_T];
      y += column_sums[(tile * width + q) * TILE + j];
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

// G = C⁻¹ K by forward substitution, in place: G_q = (K_q − Σ_{p<q} C_qp G_p)/C_qq, AT_ONCE rows q together, so
// that the rows before them are read once for all.  a thread per weight
#define AT_ONCE 8
extern "C" __global__ void whiten(double *K_qw, const double *C_qq, int m, int N) {
  const int w = blockIdx.x * blockDim.x + threadIdx.x;
  if (w >= N) return;
  for (int q0 = 0; q0 < m; q0 += AT_ONCE) {
    double y[AT_ONCE];
#pragma unroll
    for (int a = 0; a < AT_ONCE; a++) y[a] = q0 + a < m ? K_qw[(long long)(q0 + a) * N + w] : 0;
    for (int p = 0; p < q0; p++) {
      const double G = K_qw[(long long)p * N + w];
#pragma unroll
      for (int a = 0; a < AT_ONCE; a++)
        if (q0 + a < m) y[a] -= C_qq[(q0 + a) * m + p] * G;
    }
#pragma unroll
    for (int a = 0; a < AT_ONCE; a++)
      if (q0 + a < m) {
        const double *C = C_qq + (q0 + a) * m + q0;
#pragma unroll
        for (int b = 0; b < a; b++) y[a] -= C[b] * y[b];
        y[a] *= 1.0 / C[a];
        K_qw[(long long)(q0 + a) * N + w] = y[a];
      }
  }
}

#define MICRO (TILE / 16)
#define FOLDED 32  // pending columns at a time: both strips of them lie in shared memory

// A ← s (A − UᵀU).  grid: tiles of P; block: 16 · 16 threads with MICRO · MICRO numbers each
extern "C" __global__ void __launch_bounds__(256) fold(
    REAL *tiles, const REAL *pending, int n_k, double scale, const int *tile_rows, const int *rows,
    const int *status) {
  __shared__ REAL u_r[FOLDED][TILE], u_c[FOLDED][TILE];
  if (*status) return;
  const int r = tile_rows[blockIdx.x];
  const int *row = rows + ROW_COLUMNS * r;
  const int c = (int)blockIdx.x - row[FIRST_TILE] + row[FIRST_T];
  const int i0 = threadIdx.x / 16, j0 = threadIdx.x % 16;
  REAL s[MICRO][MICRO];
#pragma unroll
  for (int i = 0; i < MICRO; i++)
#pragma unroll
    for (int j = 0; j < MICRO; j++) s[i][j] = 0;
  for (int k0 = 0; k0 < n_k; k0 += FOLDED) {
    const int some = n_k - k0 < FOLDED ? n_k - k0 : FOLDED;
    const REAL *U_r = pending + ((long long)r * PENDING + k0) * TILE, *U_c = pending + ((long long)c * PENDING + k0) * TILE;
    __syncthreads();  // the columns before these may still be read
    for (int x = threadIdx.x; x < some * TILE; x += 256) u_r[x / TILE][x % TILE] = U_r[x], u_c[x / TILE][x % TILE] = U_c[x];
    __syncthreads();
    for (int k = 0; k < some; k++) {
      REAL a[MICRO], b[MICRO];
#pragma unroll
      for (int i = 0; i < MICRO; i++) a[i] = u_r[k][i0 + 16 * i], b[i] = u_c[k][j0 + 16 * i];
#pragma unroll
      for (int i = 0; i < MICRO; i++)
#pragma unroll
        for (int j = 0; j < MICRO; j++) s[i][j] += a[i] * b[j];
    }
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
