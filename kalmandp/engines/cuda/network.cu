// Kernels of `cuda_network`: what stands between the matrix products of a fully connected net.
//
// The equations are those of `potential.network`; φ, φ′, φ″ those of `potential.activations`. A thread
// has one entry (row, n) of a layer. skip: 0 nothing, 1 x, 2 [x, x].

enum { TANH, LINEAR, RELU, RELU6, SOFTPLUS, SIGMOID, GELU, SILU, SILUT };

struct Phi { double value, d1, d2; };

__device__ __forceinline__ Phi logistic(double a) {
  const double s = 0.5 * (1 + tanh(0.5 * a)), d = s * (1 - s);
  return {s, d, d * (1 - 2 * s)};
}

__device__ __forceinline__ Phi silu(double a) {
  const Phi s = logistic(a);
  return {a * s.value, s.value + a * s.d1, 2 * s.d1 + a * s.d2};
}

__device__ Phi phi(int code, double threshold, double a) {
  if (code == TANH) {
    const double t = tanh(a), d = 1 - t * t;
    return {t, d, -2 * t * d};
  }
  if (code == LINEAR) return {a, 1, 0};
  if (code == RELU) return a > 0 ? Phi{a, 1, 0} : Phi{0, 0, 0};
  if (code == RELU6) return a >= 6 ? Phi{6, 0, 0} : a > 0 ? Phi{a, 1, 0} : Phi{0, 0, 0};
  if (code == SOFTPLUS) {
    const Phi s = logistic(a);
    return {log1p(exp(-fabs(a))) + (a > 0 ? a : 0), s.value, s.d1};
  }
  if (code == SIGMOID) return logistic(a);
  if (code == GELU) {
    // φ = ½ a (1 + tanh z),  z = √(2/π) (a + 0.044715 a³)
    const double z1 = GELU_SCALE * (1 + 3 * GELU_CUBIC * a * a), t = tanh(GELU_SCALE * (a + GELU_CUBIC * a * a * a));
    const double t1 = (1 - t * t) * z1, t2 = (1 - t * t) * (GELU_SCALE * 6 * GELU_CUBIC * a - 2 * t * z1 * z1);
    return {0.5 * a * (1 + t), 0.5 * (1 + t) + 0.5 * a * t1, t1 + 0.5 * a * t2};
  }
  if (code == SILU || a < threshold) return silu(a);
  // silut above its threshold T: tanh(slope (a − T)) + silu(T)
  const double s = 1 / (1 + exp(-threshold)), slope = s + threshold * s * (1 - s);
  const double t = tanh(slope * (a - threshold)), d = 1 - t * t;
  return {t + threshold * s, slope * d, -2 * slope * slope * t * d};
}

__device__ __forceinline__ double skipped(const double *x, int skip, int n_in, int row, int n) {
  return skip ? x[(long long)row * n_in + n % n_in] : 0.0;
}

// a = xW + b;  y = φ(a) · idt + skip(x).  On entry ``phi_`` holds xW, on return φ(a)
extern "C" __global__ void layer_forward(
    double *phi_, double *d1, double *d2, double *y, const double *x, const double *b, const double *idt,
    int has_idt, int skip, int rows, int n_in, int n_out, int code, double threshold) {
  const int e = blockIdx.x * blockDim.x + threadIdx.x;
  if (e >= rows * n_out) return;
  const Phi f = phi(code, threshold, phi_[e] + b[e % n_out]);
  phi_[e] = f.value, d1[e] = f.d1, d2[e] = f.d2;
  y[e] = (has_idt ? f.value * idt[e % n_out] : f.value) + skipped(x, skip, n_in, e / n_out, e % n_out);
}

// ẏ = φ′(a) ȧ · idt + skip(ẋ), with ȧ = ẋW given
extern "C" __global__ void layer_tangent(
    const double *a_dot, const double *d1, double *y_dot, const double *x_dot, const double *idt, int has_idt,
    int skip, int rows, int n_in, int n_out) {
  const int e = blockIdx.x * blockDim.x + threadIdx.x;
  if (e >= rows * n_out) return;
  const double y = d1[e] * a_dot[e];
  y_dot[e] = (has_idt ? y * idt[e % n_out] : y) + skipped(x_dot, skip, n_in, e / n_out, e % n_out);
}

// φ̄ = ȳ · idt;  ā = φ̄ φ′;  idt̄ = Σ ȳ φ  (its terms)
extern "C" __global__ void layer_backward(
    const double *y_bar, const double *phi_, const double *d1, const double *idt, int has_idt, int rows, int n_out,
    double *a_bar, double *idt_bar) {
  const int e = blockIdx.x * blockDim.x + threadIdx.x;
  if (e >= rows * n_out) return;
  a_bar[e] = (has_idt ? y_bar[e] * idt[e % n_out] : y_bar[e]) * d1[e];
  if (has_idt) idt_bar[e] = y_bar[e] * phi_[e];
}

// ā = φ̄ φ′ + φ̇̄ φ″ ȧ;  ǡ = φ̇̄ φ′;  idt̄ = Σ ȳ φ + ẏ̄ φ′ ȧ  (its terms)
extern "C" __global__ void layer_tangent_backward(
    const double *y_bar, const double *y_dot_bar, const double *phi_, const double *d1, const double *d2,
    const double *a_dot, const double *idt, int has_idt, int rows, int n_out, double *a_bar, double *a_dot_bar,
    double *idt_bar) {
  const int e = blockIdx.x * blockDim.x + threadIdx.x;
  if (e >= rows * n_out) return;
  const double scale = has_idt ? idt[e % n_out] : 1.0;
  a_bar[e] = scale * (y_bar[e] * d1[e] + y_dot_bar[e] * d2[e] * a_dot[e]);
  a_dot_bar[e] = scale * y_dot_bar[e] * d1[e];
  if (has_idt) idt_bar[e] = y_bar[e] * phi_[e] + y_dot_bar[e] * d1[e] * a_dot[e];
}

// x̄ += skipᵀ(ȳ), with ā Wᵀ in x̄.  a thread per entry of x̄
extern "C" __global__ void add_skip(double *x_bar, const double *y_bar, int skip, int rows, int n_in, int n_out) {
  const int e = blockIdx.x * blockDim.x + threadIdx.x;
  if (e >= rows * n_in) return;
  const double *y = y_bar + (long long)(e / n_in) * n_out + e % n_in;
  x_bar[e] += skip == 2 ? y[0] + y[n_in] : y[0];
}
