// Kernels of `cuda.deep_potential.network`: a layer of several nets of one form, in one launch.
//
// The equations are those of `potentials.network`; φ, φ′, φ″ those of `potentials.activations`. Rows of x belong
// to nets in ``pieces`` (net, first row, one past the last). Products are made in tiles of SIDE × SIDE, a block
// of threads for each; what stands before and after a product (ā from ȳ, φ from a, skip) is done on the way.
//
// A layer lies in w as Wᵀ (n_out, n_in), b and, where there is one, idt, at ``at`` + net · ``stride``.
// skip: 0 nothing, 1 x, 2 [x, x].

enum { TANH, LINEAR, RELU, RELU6, SOFTPLUS, SIGMOID, GELU, SILU, SILUT };

struct Phi { double value, d1, d2; };

__device__ __forceinline__ Phi logistic(double a) {
  const double e = exp(-fabs(a)), large = 1 / (1 + e), small = e / (1 + e);
  const double s = a > 0 ? large : small, c = a > 0 ? small : large, d = s * c;
  return {s, d, d * (c - s)};
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

#define SIDE 32    // rows and columns of a tile
#define THREADS 16  // along each of them; a thread has every 16th of both
#define DEPTH 16   // of a product, at a time
#define EACH (SIDE / THREADS)

enum { NET, FIRST, END, PIECE };

// One layer of all nets, as the host describes it.
struct Form {
  const double *W, *b, *idt;  // of this block's net; idt is 0 where there is none
  int n_in, n_out, skip;

  __device__ __forceinline__ Form(const double *w, int at, int stride, int net, int n_in, int n_out, int has_idt, int skip)
      : n_in(n_in), n_out(n_out), skip(skip) {
    W = w + at + (long long)net * stride;
    b = W + (long long)n_in * n_out;
    idt = has_idt ? b + n_out : 0;
  }
  __device__ __forceinline__ double scale(int n) const { return idt ? idt[n] : 1.0; }
};

// Factors of a product: at(i, k) or at(k, j), zero beyond their ends. DEPTH_FIRST: neighbours in k are
// neighbours in memory.

// rows first … end of a matrix (…, width)
struct Rows {
  const double *x;
  int first, end, width;
  static const bool DEPTH_FIRST = true;
  __device__ __forceinline__ double at(int i, int k) const {
    return first + i < end && k < width ? x[(long long)(first + i) * width + k] : 0.0;
  }
};

// W from column j0 on
struct Weights {
  const Form &f;
  int j0;
  static const bool DEPTH_FIRST = true;
  __device__ __forceinline__ double at(int j, int k) const {
    return j0 + j < f.n_out && k < f.n_in ? f.W[(long long)(j0 + j) * f.n_in + k] : 0.0;
  }
};

// Wᵀ from column j0 on
struct Transposed {
  const Form &f;
  int j0;
  static const bool DEPTH_FIRST = false;
  __device__ __forceinline__ double at(int j, int k) const {
    return j0 + j < f.n_in && k < f.n_out ? f.W[(long long)k * f.n_in + j0 + j] : 0.0;
  }
};

// What backward knows of a layer.  φ̄ = ȳ · idt,  φ̇̄ = ẏ̄ · idt
struct Adjoints {
  const Form &f;
  const double *y_bar, *y_dot_bar, *phi_, *d1, *d2, *a_dot;
  int moves;  // whether there are tangents

  // ā = φ̄ φ′ + φ̇̄ φ″ ȧ
  __device__ __forceinline__ double a_bar(int row, int n) const {
    const long long e = (long long)row * f.n_out + n;
    const double own = y_bar[e] * d1[e];
    return f.scale(n) * (moves ? own + y_dot_bar[e] * d2[e] * a_dot[e] : own);
  }
  // ǡ = φ̇̄ φ′
  __device__ __forceinline__ double a_dot_bar(int row, int n) const {
    const long long e = (long long)row * f.n_out + n;
    return f.scale(n) * y_dot_bar[e] * d1[e];
  }
  // terms of idt̄ = Σ ȳ φ + ẏ̄ φ′ ȧ
  __device__ __forceinline__ double idt_bar(int row, int n) const {
    const long long e = (long long)row * f.n_out + n;
    return moves ? y_bar[e] * phi_[e] + y_dot_bar[e] * d1[e] * a_dot[e] : y_bar[e] * phi_[e];
  }
};

// ā, or ǡ, of rows first … end
template <bool DOT> struct Bar {
  const Adjoints &a;
  int first, end;
  static const bool DEPTH_FIRST = true;
  __device__ __forceinline__ double at(int i, int k) const {
    if (first + i >= end || k >= a.f.n_out) return 0.0;
    return DOT ? a.a_dot_bar(first + i, k) : a.a_bar(first + i, k);
  }
};

// āᵀ, or ǡᵀ, from row n0 on; depth: rows first … end
template <bool DOT> struct BarTransposed {
  const Adjoints &a;
  int first, end, n0;
  static const bool DEPTH_FIRST = false;
  __device__ __forceinline__ double at(int i, int k) const {
    if (first + k >= end || n0 + i >= a.f.n_out) return 0.0;
    return DOT ? a.a_dot_bar(first + k, n0 + i) : a.a_bar(first + k, n0 + i);
  }
};

// x from column j0 on, rows first … end; one column more, of ``last``, gives b̄ beside W̄
struct Inputs {
  const double *x;
  int first, end, width, j0;
  double last;
  static const bool DEPTH_FIRST = false;
  __device__ __forceinline__ double at(int j, int k) const {
    if (first + k >= end || j0 + j > width) return 0.0;
    return j0 + j == width ? last : x[(long long)(first + k) * width + j0 + j];
  }
};

// sum[a][b] += Σ_k left.at(i, k) right.at(j, k) for i = 16a + threadIdx.x / 16, j = 16b + threadIdx.x % 16
template <class Left, class Right>
__device__ __forceinline__ void product(const Left &left, const Right &right, int depth, double (*sum)[EACH]) {
  __shared__ double l[DEPTH][SIDE + 1], r[DEPTH][SIDE + 1];
  const int i0 = threadIdx.x / THREADS, j0 = threadIdx.x % THREADS;
  double next_l[EACH], next_r[EACH];  // on their way while the last ones are multiplied
  auto place = [](bool depth_first, int part, int &i, int &k) {
    const int x = threadIdx.x + part * THREADS * THREADS;
    i = depth_first ? x / DEPTH : x % SIDE;
    k = depth_first ? x % DEPTH : x / SIDE;
  };
  auto fetch = [&](int k0) {
#pragma unroll
    for (int part = 0; part < EACH; part++) {
      int i, k;
      place(Left::DEPTH_FIRST, part, i, k);
      next_l[part] = left.at(i, k0 + k);
      place(Right::DEPTH_FIRST, part, i, k);
      next_r[part] = right.at(i, k0 + k);
    }
  };
  fetch(0);
  for (int k0 = 0; k0 < depth; k0 += DEPTH) {
    __syncthreads();
#pragma unroll
    for (int part = 0; part < EACH; part++) {
      int i, k;
      place(Left::DEPTH_FIRST, part, i, k);
      l[k][i] = next_l[part];
      place(Right::DEPTH_FIRST, part, i, k);
      r[k][i] = next_r[part];
    }
    __syncthreads();
    if (k0 + DEPTH < depth) fetch(k0 + DEPTH);
#pragma unroll
    for (int k = 0; k < DEPTH; k++)
#pragma unroll
      for (int a = 0; a < EACH; a++)
#pragma unroll
        for (int b = 0; b < EACH; b++) sum[a][b] += l[k][i0 + THREADS * a] * r[k][j0 + THREADS * b];
  }
}

// use(row, column, value) for each entry of a product that this thread has, its tile beginning at (i0, j0)
template <class Use>
__device__ __forceinline__ void for_entries(const double (*sum)[EACH], int i0, int j0, const Use &use) {
#pragma unroll
  for (int a = 0; a < EACH; a++)
#pragma unroll
    for (int b = 0; b < EACH; b++)
      use(i0 + threadIdx.x / THREADS + THREADS * a, j0 + threadIdx.x % THREADS + THREADS * b, sum[a][b]);
}

// a = xW + b;  y = φ(a) · idt + skip(x).  grid: (pieces of at most SIDE rows, tiles of columns)
extern "C" __global__ void __launch_bounds__(THREADS * THREADS) layer_forward(
    const double *w, int at, int stride, int n_in, int n_out, int has_idt, int skip, int code, double threshold,
    const int *pieces, const double *x, double *phi_, double *d1, double *d2, double *y) {
  const int *piece = pieces + PIECE * blockIdx.x, first = piece[FIRST], end = piece[END], n0 = SIDE * blockIdx.y;
  const Form f(w, at, stride, piece[NET], n_in, n_out, has_idt, skip);
  double sum[EACH][EACH] = {};
  product(Rows{x, first, end, n_in}, Weights{f, n0}, n_in, sum);
  for_entries(sum, first, n0, [&](int row, int n, double value) {
    if (row >= end || n >= n_out) return;
    const Phi p = phi(code, threshold, value + f.b[n]);
    const long long e = (long long)row * n_out + n;
    phi_[e] = p.value, d1[e] = p.d1, d2[e] = p.d2;
    y[e] = (has_idt ? p.value * f.idt[n] : p.value) + (skip ? x[(long long)row * n_in + n % n_in] : 0.0);
  });
}

// ȧ = ẋW;  ẏ = φ′(a) ȧ · idt + skip(ẋ).  grid as above
extern "C" __global__ void __launch_bounds__(THREADS * THREADS) layer_tangent(
    const double *w, int at, int stride, int n_in, int n_out, int has_idt, int skip, const int *pieces,
    const double *x_dot, const double *d1, double *a_dot, double *y_dot) {
  const int *piece = pieces + PIECE * blockIdx.x, first = piece[FIRST], end = piece[END], n0 = SIDE * blockIdx.y;
  const Form f(w, at, stride, piece[NET], n_in, n_out, has_idt, skip);
  double sum[EACH][EACH] = {};
  product(Rows{x_dot, first, end, n_in}, Weights{f, n0}, n_in, sum);
  for_entries(sum, first, n0, [&](int row, int n, double value) {
    if (row >= end || n >= n_out) return;
    const long long e = (long long)row * n_out + n;
    a_dot[e] = value;
    y_dot[e] = f.scale(n) * d1[e] * value + (skip ? x_dot[(long long)row * n_in + n % n_in] : 0.0);
  });
}

// x̄ = āWᵀ + skipᵀ(ȳ), and in the second half of the grid's columns ẋ̄ = ǡWᵀ + skipᵀ(ẏ̄)
extern "C" __global__ void __launch_bounds__(THREADS * THREADS) layer_backward(
    const double *w, int at, int stride, int n_in, int n_out, int has_idt, int skip, const int *pieces,
    const double *y_bar, const double *y_dot_bar, const double *phi_, const double *d1, const double *d2,
    const double *a_dot, int moves, double *x_bar, double *x_dot_bar) {
  const int *piece = pieces + PIECE * blockIdx.x, first = piece[FIRST], end = piece[END];
  const int tiles = (n_in + SIDE - 1) / SIDE, n0 = SIDE * (blockIdx.y % tiles);
  const bool dot = (int)blockIdx.y >= tiles;
  const Form f(w, at, stride, piece[NET], n_in, n_out, has_idt, skip);
  const Adjoints adjoints = {f, y_bar, y_dot_bar, phi_, d1, d2, a_dot, moves};
  double sum[EACH][EACH] = {};
  if (dot) product(Bar<true>{adjoints, first, end}, Transposed{f, n0}, n_out, sum);
  else product(Bar<false>{adjoints, first, end}, Transposed{f, n0}, n_out, sum);
  const double *own = dot ? y_dot_bar : y_bar;
  double *out = dot ? x_dot_bar : x_bar;
  for_entries(sum, first, n0, [&](int row, int n, double value) {
    if (row >= end || n >= n_in) return;
    const double *skipped = own + (long long)row * n_out + n;
    out[(long long)row * n_in + n] = value + (skip == 0 ? 0.0 : skip == 1 ? skipped[0] : skipped[0] + skipped[n_in]);
  });
}

// W̄ᵀ = āᵀx + ǡᵀẋ, b̄ = Σ ā and idt̄ of the rows of one piece; pieces of a net are summed by `layer_sums`.
// They go to out + piece · part, or, where each net is one piece, to their place in the gradient.
// grid: (pieces, tiles of n_out × (n_in + 1))
extern "C" __global__ void __launch_bounds__(THREADS * THREADS) layer_gradient(
    const double *w, int at, int stride, int n_in, int n_out, int has_idt, const int *pieces, const double *x,
    const double *x_dot, const double *y_bar, const double *y_dot_bar, const double *phi_, const double *d1,
    const double *d2, const double *a_dot, int moves, int part, double *out) {
  const int *piece = pieces + PIECE * blockIdx.x, begin = piece[FIRST], end = piece[END];
  const int tiles = (n_in + SIDE) / SIDE, first = SIDE * (blockIdx.y / tiles), n0 = SIDE * (blockIdx.y % tiles);
  const Form f(w, at, stride, piece[NET], n_in, n_out, has_idt, 0);
  const Adjoints adjoints = {f, y_bar, y_dot_bar, phi_, d1, d2, a_dot, moves};
  out += part ? (long long)part * blockIdx.x : at + (long long)stride * piece[NET];
  double sum[EACH][EACH] = {};
  product(BarTransposed<false>{adjoints, begin, end, first}, Inputs{x, begin, end, n_in, n0, 1.0}, end - begin, sum);
  if (moves)
    product(BarTransposed<true>{adjoints, begin, end, first}, Inputs{x_dot, begin, end, n_in, n0, 0.0}, end - begin, sum);
  for_entries(sum, first, n0, [&](int row, int n, double value) {
    if (row >= n_out || n > n_in) return;
    if (n < n_in) out[(long long)row * n_in + n] = value;
    else out[(long long)n_in * n_out + row] = value;
  });
  if (has_idt && n0 == 0 && threadIdx.x < SIDE && first + (int)threadIdx.x < n_out) {
    double total = 0;
    for (int r = begin; r < end; r++) total += adjoints.idt_bar(r, first + threadIdx.x);
    out[(long long)(n_in + 1) * n_out + first + threadIdx.x] = total;
  }
}

// gradient[at + net · stride + x] = Σ parts of the net's pieces.  grid: (x, nets)
extern "C" __global__ void layer_sums(
    const double *parts, int part, const int *first_piece, int at, int stride, double *gradient) {
  const int x = blockIdx.x * blockDim.x + threadIdx.x, net = blockIdx.y;
  if (x >= part) return;
  double sum = 0;
  for (int p = first_piece[net]; p < first_piece[net + 1]; p++) sum += parts[(long long)p * part + x];
  gradient[at + (long long)stride * net + x] = sum;
}
