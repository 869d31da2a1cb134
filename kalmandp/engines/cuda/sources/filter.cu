// Kernels of `cuda.filter`: the Kalman update between P Hᵀ and the new P, without the host.
//
// ``status`` is 0 until something is met that must not be used. From then on nothing changes the weights or
// P: every kernel that would looks at it first. ``detail`` says which number it was.

enum { FINE, HPH_NOT_FINITE, HPH_NEGATIVE, S_NOT_POSITIVE, ERROR_NOT_FINITE, STEP_NOT_FINITE };

__device__ __forceinline__ void fail(int *status, double *detail, int code, double value, int q) {
  *status = code, detail[0] = value, detail[1] = q;
}

// l. 8:  S = λ R + H P Hᵀ = C Cᵀ;  z = C⁻¹ error.  Column by column, by one block of threads
extern "C" __global__ void innovation(
    const double *HPH_qq, const double *R_qq, const double *error_q, int m, double lam, int *status,
    double *detail, double *S_qq, double *C_qq, double *z_q, double *nis) {
  __shared__ int bad;
  const int n = threadIdx.x, stride = blockDim.x;
  if (*status) return;
  if (n == 0) bad = FINE;
  __syncthreads();
  for (int x = n; x < m * m; x += stride) {
    const double both = (HPH_qq[x] + HPH_qq[x % m * m + x / m]) / 2;
    S_qq[x] = C_qq[x] = lam * R_qq[x] + both;
    if (!is_finite(both)) bad = HPH_NOT_FINITE;
    if (x < m) z_q[x] = error_q[x];
  }
  __syncthreads();
  if (n == 0) {
    double least = 0;  // where H P Hᵀ is small, rounding may push it below zero
    for (int q = 0; q < m && !bad; q++) {
      const double excess = HPH_qq[q * m + q] + 0.1 * lam * R_qq[q * m + q];
      if (excess < least) least = excess, fail(status, detail, HPH_NEGATIVE, HPH_qq[q * m + q], q);
    }
    if (bad) fail(status, detail, bad, 0, 0);
    else if (least < 0) bad = HPH_NEGATIVE;
  }
  __syncthreads();
  for (int q = 0; q < m && !bad; q++) {
    const double pivot = C_qq[q * m + q];
    // below this a pivot is rounding
    if (!(pivot > m * 2.220446049250313e-16 * S_qq[q * m + q] && is_finite(pivot))) {
      if (n == 0) fail(status, detail, S_NOT_POSITIVE, pivot, q);
      return;  // alike for all threads
    }
    __syncthreads();  // all have read the pivot
    for (int r = q + n; r < m; r += stride) C_qq[r * m + q] /= sqrt(pivot);
    __syncthreads();
    if (n == 0) z_q[q] /= C_qq[q * m + q];
    __syncthreads();
    const int rest = m - q - 1;
    for (int x = n; x < rest * rest; x += stride) {
      const int r = q + 1 + x / rest, c = q + 1 + x % rest;
      if (c <= r) C_qq[r * m + c] -= C_qq[r * m + q] * C_qq[c * m + q];
    }
    for (int r = q + 1 + n; r < m; r += stride) z_q[r] -= C_qq[r * m + q] * z_q[q];
    __syncthreads();
  }
  if (n == 0 && !bad) {
    double sum = 0;
    for (int q = 0; q < m; q++) sum += z_q[q] * z_q[q];
    *nis = sum;
    if (!is_finite(sum)) fail(status, detail, ERROR_NOT_FINITE, sum, 0);
  }
}

// l. 12:  Δw = Gᵀz.  parts[piece] = Σ Δw², Σ G².  grid: pieces of weights, from first[piece] on; a thread per weight
extern "C" __global__ void weight_step(
    const double *G_qw, const double *z_q, const double *weights, const int *first, int m, int N, int *status,
    double *step_w, double *parts) {
  const int w = first[blockIdx.x] + threadIdx.x;
  const bool own = w < first[blockIdx.x + 1];
  double step = 0, square = 0;
  for (int q = 0; q < m && own; q++) {
    const double G = G_qw[(long long)q * N + w];
    step += z_q[q] * G, square += G * G;
  }
  if (own) {
    step_w[w] = step;
    if (!is_finite(weights[w] + step)) atomicCAS(status, FINE, STEP_NOT_FINITE);  // an earlier failure stays
  }
  step = block_sum(step * step), square = block_sum(square);
  if (threadIdx.x == 0) parts[2 * blockIdx.x] = step, parts[2 * blockIdx.x + 1] = square;
}

// w ← w + Δw, if all is well; the update is counted and its figures kept: info = |Δw|², Σ G²
extern "C" __global__ void accept(
    double *weights, const double *step_w, int N, const int *status, const double *parts, int n_parts, int *done,
    double *info) {
  const int w = blockIdx.x * blockDim.x + threadIdx.x;
  if (*status) return;
  if (w < N) weights[w] += step_w[w];
  if (blockIdx.x) return;
  double step = 0, square = 0;
  for (int k = threadIdx.x; k < n_parts; k += blockDim.x) step += parts[2 * k], square += parts[2 * k + 1];
  step = block_sum(step), square = block_sum(square);
  if (threadIdx.x == 0) *done += 1, info[0] = step, info[1] = square;
}
