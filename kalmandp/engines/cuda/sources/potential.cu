// Kernels of `cuda.deep_potential`: loops over pairs and atoms, the embedding read from a table of its nodes.
//
// The equations are those of `potentials.deep_potential`, `.environment` and `.moments`, and of `potentials.atomic`.
// Moments are stored as T[i, k, m]. A lane of a warp has a column m, and blockIdx.y counts the columns in warps; each
// sum is taken in an order that the input alone decides. Letters as in `arrays`; pairs of atom i are
// first_i[i] … first_i[i+1]−1, ν is a node of the table counted from the first one, ``start``.

#define ATOM_WARPS 4
#define NODE_WARPS 8
#define CHUNK 64

__device__ const double LAGRANGE[ORDER][ORDER] = LAGRANGE_ROWS;
__device__ const double DIFFERENCE[ORDER + 1] = DIFFERENCE_ROW;

// How good a table is for its own step and for coarser ones, whose nodes are among its own: of each net and
// window (first place, one past the last, stride) the largest |Δⁿ G|², n = ORDER, and |G|².
//   squares[window, net, part] = those of every gridDim.y-th share of its places
// grid: (windows and nets, parts); block: a multiple of WARP, a warp per place
extern "C" __global__ void differences(
    const double *G_enm, int n_nets, int n_nodes, int M, const int *windows, double *squares) {
  __shared__ double found[2][WARP];
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
  const int *window = windows + 3 * (blockIdx.x / n_nets);
  const int end = window[1], stride = window[2];
  const double *G_nm = G_enm + (long long)(blockIdx.x % n_nets) * n_nodes * M;
  double most[2] = {0, 0};
  for (int node = window[0] + (blockIdx.y * warps + warp) * stride; node < end; node += gridDim.y * warps * stride) {
    const double *G = G_nm + (long long)node * M;
    const bool has_difference = node + ORDER * stride < end;
    double square[2] = {0, 0};
    for (int m = lane; m < M; m += WARP) {
      double d = 0;
      if (has_difference)
        for (int n = 0; n <= ORDER; n++) d += DIFFERENCE[n] * G[(long long)n * stride * M + m];
      square[0] += d * d, square[1] += G[m] * G[m];
    }
    for (int x = 0; x < 2; x++) {
      square[x] = warp_sum(square[x]);
      if (square[x] > most[x]) most[x] = square[x];  // in lane 0
    }
  }
  if (lane == 0) found[0][warp] = most[0], found[1][warp] = most[1];
  __syncthreads();
  if (threadIdx.x < 2) {
    double largest = 0;
    for (int n = 0; n < warps; n++)
      if (found[threadIdx.x][n] > largest) largest = found[threadIdx.x][n];
    squares[2 * ((long long)blockIdx.x * gridDim.y + blockIdx.y) + threadIdx.x] = largest;
  }
}

struct Table {
  double step;
  int start, n_nodes, M;
  double c[ORDER];  // coefficients of ℓ_n for n = this lane's number modulo ORDER

  __device__ __forceinline__ Table(double step, int start, int n_nodes, int M)
      : step(step), start(start), n_nodes(n_nodes), M(M) {
#pragma unroll
    for (int a = 0; a < ORDER; a++) c[a] = LAGRANGE[threadIdx.x % ORDER][a];
  }

  // u = g/h;  x = u − ν − (ORDER − 1)/2;  ℓ_n(x) = Σ_a c_na xᵃ and dℓ_n/dg, of this lane's n.  Returns ν
  __device__ __forceinline__ int locate(double g, double &ell, double &dell) const {
    const double u = g / step;
    const int node = (int)floor(u) - (ORDER / 2 - 1);
    const double x = u - node - 0.5 * (ORDER - 1);
    double value = c[ORDER - 1], slope = 0;
#pragma unroll
    for (int a = ORDER - 2; a >= 0; a--) slope = slope * x + value, value = value * x + c[a];
    ell = value, dell = slope / step;
    return node - start;
  }

  // Σ_n weight_n G[net, ν + n, m], the weights taken from the lanes of the warp
  __device__ __forceinline__ double read(const double *G_enm, int net, int node, double weight, int m) const {
    const double *G = G_enm + ((long long)net * n_nodes + node) * M + m;
    double sum = 0;
#pragma unroll
    for (int n = 0; n < ORDER; n++) {
      const double w = __shfl_sync(FULL, weight, n);
      if (m < M) sum += w * G[n * M];
    }
    return sum;
  }
};

// T = (1/Σsel) [Σ_p R̃_p ⊗ G_p + Σ_v n_iv R̃_v ⊗ G_v].  grid: (atoms, columns); block: ATOM_WARPS warps
extern "C" __global__ void moments(
    const int *first_i, const int *net_p, const double *Rt_pk, const double *G_enm, double step, int start,
    int n_nodes, int M, const double *count_iv, const double *G_vm, const double *Rt_vk, int n_v, double scale,
    double *T_ikm) {
  __shared__ double parts[ATOM_WARPS][4][WARP];
  const int i = blockIdx.x, lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, m = blockIdx.y * WARP + lane;
  const Table table(step, start, n_nodes, M);
  double T[4] = {0, 0, 0, 0};
  for (int p = first_i[i] + warp; p < first_i[i + 1]; p += ATOM_WARPS) {
    double ell, dell;
    const int node = table.locate(Rt_pk[4 * p], ell, dell);
    const double G = table.read(G_enm, net_p[p], node, ell, m);
#pragma unroll
    for (int k = 0; k < 4; k++) T[k] += Rt_pk[4 * p + k] * G;
  }
  for (int k = 0; k < 4; k++) parts[warp][k][lane] = T[k];
  __syncthreads();
  // warp k has the k-th row
  double sum = 0;
  for (int n = 0; n < ATOM_WARPS; n++) sum += parts[n][warp][lane];
  if (m >= M) return;
  for (int v = 0; v < n_v; v++) {
    const double count = count_iv[(long long)i * n_v + v];
    if (count != 0) sum += count * Rt_vk[4 * v + warp] * G_vm[v * M + m];
  }
  T_ikm[((long long)i * 4 + warp) * M + m] = scale * sum;
}

// Ṫ = (1/Σsel) Σ_p (Ṙ̃ ⊗ G + R̃ ⊗ Ġ), Ṙ̃ = ∂R̃/∂r·v, Ġ = G′ Ṙ̃_0.  grid and block as `moments`
extern "C" __global__ void moments_tangent(
    const int *first_i, const int *net_p, const double *Rt_pk, const double *dRt_pkc, const double *v_pc,
    const double *G_enm, double step, int start, int n_nodes, int M, double scale, double *Rt_dot_pk,
    double *T_dot_ikm) {
  __shared__ double parts[ATOM_WARPS][4][WARP];
  const int i = blockIdx.x, lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, m = blockIdx.y * WARP + lane;
  const Table table(step, start, n_nodes, M);
  double T[4] = {0, 0, 0, 0};
  for (int p = first_i[i] + warp; p < first_i[i + 1]; p += ATOM_WARPS) {
    double S[4], ell, dell;
#pragma unroll
    for (int k = 0; k < 4; k++) {
      S[k] = 0;
      for (int c = 0; c < 3; c++) S[k] += dRt_pkc[12 * p + 3 * k + c] * v_pc[3 * p + c];
    }
    if (blockIdx.y == 0 && lane == 0)
      for (int k = 0; k < 4; k++) Rt_dot_pk[4 * p + k] = S[k];
    if (S[0] == 0 && S[1] == 0 && S[2] == 0 && S[3] == 0) continue;  // alike for all lanes
    const int node = table.locate(Rt_pk[4 * p], ell, dell);
    const double G = table.read(G_enm, net_p[p], node, ell, m);
    const double G_dot = S[0] * table.read(G_enm, net_p[p], node, dell, m);
#pragma unroll
    for (int k = 0; k < 4; k++) T[k] += S[k] * G + Rt_pk[4 * p + k] * G_dot;
  }
  for (int k = 0; k < 4; k++) parts[warp][k][lane] = T[k];
  __syncthreads();
  double sum = 0;
  for (int n = 0; n < ATOM_WARPS; n++) sum += parts[n][warp][lane];
  if (m < M) T_dot_ikm[((long long)i * 4 + warp) * M + m] = scale * sum;
}

// D_ms = scale Σ_k (X_km T_ks + T_km X_ks): D for X = T and scale ½, Ḋ for X = Ṫ and scale 1.
// grid: rows of D, the atoms of one type; a thread per entry
extern "C" __global__ void contract(
    const double *X_ikm, const double *T_ikm, const int *atoms, int M, int axis, double scale, double *D) {
  const long long atom = atoms[blockIdx.x];
  const double *X = X_ikm + atom * 4 * M, *T = T_ikm + atom * 4 * M;
  for (int x = threadIdx.x; x < M * axis; x += blockDim.x) {
    const int m = x / axis, s = x % axis;
    double sum = 0;
    for (int k = 0; k < 4; k++) sum += X[k * M + m] * T[k * M + s] + T[k * M + m] * X[k * M + s];
    D[(long long)blockIdx.x * M * axis + x] = scale * sum;
  }
}

// T̄_km (+)= Σ_s D̄_ms T_ks, and for m < M‹ also Σ_m′ D̄_m′m T_km′.  grid: rows of D̄; a thread per entry of T̄
extern "C" __global__ void contract_adjoint(
    const double *T_ikm, const int *atoms, int M, int axis, const double *D_bar, int add, double *T_bar_ikm) {
  const long long atom = atoms[blockIdx.x];
  const double *T = T_ikm + atom * 4 * M, *B = D_bar + (long long)blockIdx.x * M * axis;
  for (int x = threadIdx.x; x < 4 * M; x += blockDim.x) {
    const int m = x % M;
    const double *T_k = T + x / M * M;
    double sum = 0;
    for (int s = 0; s < axis; s++) sum += B[m * axis + s] * T_k[s];
    if (m < axis)
      for (int n = 0; n < M; n++) sum += B[n * axis + m] * T_k[n];
    T_bar_ikm[atom * 4 * M + x] = add ? T_bar_ikm[atom * 4 * M + x] + sum : sum;
  }
}

// f_pc = Σ_k R̃̄_k ∂R̃_k/∂r_c with R̃̄_k = Σ_m T̄_km G_m + δ_k0 Σ_m G′_m Σ_k′ T̄_k′m R̃_k′.  a warp per pair
extern "C" __global__ void pair_gradient(
    const int *i_p, const int *net_p, const double *Rt_pk, const double *dRt_pkc, int n_p, const double *G_enm,
    double step, int start, int n_nodes, int M, const double *T_bar_ikm, double scale, double *f_pc) {
  const int lane = threadIdx.x % WARP, p = warp_number();
  if (p >= n_p) return;  // alike for all lanes
  const Table table(step, start, n_nodes, M);
  const double *R = Rt_pk + 4 * p, *T_bar = T_bar_ikm + (long long)i_p[p] * 4 * M;
  double ell, dell, b[4] = {0, 0, 0, 0};
  const int node = table.locate(R[0], ell, dell);
  for (int m0 = 0; m0 < M; m0 += WARP) {
    const int m = m0 + lane;
    const double G = table.read(G_enm, net_p[p], node, ell, m), dG = table.read(G_enm, net_p[p], node, dell, m);
    double along = 0;
    if (m < M)
      for (int k = 0; k < 4; k++) b[k] += T_bar[k * M + m] * G, along += T_bar[k * M + m] * R[k];
    b[0] += along * dG;
  }
  double f[3] = {0, 0, 0};
#pragma unroll
  for (int k = 0; k < 4; k++) {
    b[k] = warp_sum(b[k]);
    for (int c = 0; c < 3; c++) f[c] += b[k] * dRt_pkc[12 * p + 3 * k + c];
  }
  if (lane == 0)
    for (int c = 0; c < 3; c++) f_pc[3 * p + c] = scale * f[c];
}

// F_i = Σ_p (f_p − f_back(p)) over the pairs of centre i.  a warp per atom
extern "C" __global__ void forces(
    const int *first_i, const int *back_p, const double *f_pc, int n_atoms, double *F_ic) {
  const int lane = threadIdx.x % WARP, i = warp_number();
  if (i >= n_atoms) return;
  for (int c = 0; c < 3; c++) {
    double sum = 0;
    for (int p = first_i[i] + lane; p < first_i[i + 1]; p += WARP) sum += f_pc[3 * p + c] - f_pc[3 * back_p[p] + c];
    sum = warp_sum(sum);
    if (lane == 0) F_ic[3 * i + c] = sum;
  }
}

// Share of atom i in W_dc = −Σ_p f_pd r_pc.  a warp per atom
extern "C" __global__ void virial(
    const int *first_i, const double *r_pc, const double *f_pc, int n_atoms, double *W_icc) {
  const int lane = threadIdx.x % WARP, i = warp_number();
  if (i >= n_atoms) return;
  for (int dc = 0; dc < 9; dc++) {
    double sum = 0;
    for (int p = first_i[i] + lane; p < first_i[i + 1]; p += WARP) sum -= f_pc[3 * p + dc / 3] * r_pc[3 * p + dc % 3];
    sum = warp_sum(sum);
    if (lane == 0) W_icc[9 * i + dc] = sum;
  }
}

// Adjoints of the nodes from the pairs of one chunk, which all have the same bucket (net, ν):
//   parts[chunk, n, m] = Σ_p ℓ_n Ḡ_p + ℓ′_n ġ_p Ġ̄_p,   Ḡ = T̄R̃ + Ṫ̄Ṙ̃,   Ġ̄ = Ṫ̄R̃
// grid: (chunks, columns), more than there are; block: NODE_WARPS = ORDER warps
extern "C" __global__ void __launch_bounds__(NODE_WARPS * WARP) node_adjoint(
    const int *chunk_first, int n_buckets, const int *bucket_first, const int *order_p, const int *i_p,
    const double *Rt_pk, const double *Rt_dot_pk, int moves, const double *T_bar_ikm, const double *T_dot_bar_ikm,
    double step, int M, double *parts) {
  __shared__ double sums[NODE_WARPS][ORDER][WARP];
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, m = blockIdx.y * WARP + lane;
  const int chunk = blockIdx.x;
  if (chunk >= chunk_first[n_buckets]) return;
  int low = 0, high = n_buckets;  // the bucket: chunk_first[low] ≤ chunk < chunk_first[low + 1]
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (chunk_first[middle] <= chunk) low = middle;
    else high = middle;
  }
  const int begin = bucket_first[low] + (chunk - chunk_first[low]) * CHUNK;
  const int end = begin + CHUNK < bucket_first[low + 1] ? begin + CHUNK : bucket_first[low + 1];
  const Table table(step, 0, 0, M);
  double acc[ORDER];
#pragma unroll
  for (int n = 0; n < ORDER; n++) acc[n] = 0;
  for (int x = begin + warp; x < end; x += NODE_WARPS) {
    const int p = order_p[x];
    const long long at = (long long)i_p[p] * 4 * M + m;
    double G_bar = 0, dG_bar = 0, ell, dell;
    table.locate(Rt_pk[4 * p], ell, dell);
    if (m < M) {
      for (int k = 0; k < 4; k++) G_bar += T_bar_ikm[at + k * M] * Rt_pk[4 * p + k];
      if (moves)
        for (int k = 0; k < 4; k++) {
          G_bar += T_dot_bar_ikm[at + k * M] * Rt_dot_pk[4 * p + k];
          dG_bar += T_dot_bar_ikm[at + k * M] * Rt_pk[4 * p + k];
        }
    }
    if (moves) dG_bar *= Rt_dot_pk[4 * p];
#pragma unroll
    for (int n = 0; n < ORDER; n++)
      acc[n] += __shfl_sync(FULL, ell, n) * G_bar + __shfl_sync(FULL, dell, n) * dG_bar;
  }
#pragma unroll
  for (int n = 0; n < ORDER; n++) sums[warp][n][lane] = acc[n];
  __syncthreads();
  double sum = 0;  // warp n has the n-th node
  for (int k = 0; k < NODE_WARPS; k++) sum += sums[k][warp][lane];
  if (m < M) parts[((long long)chunk * ORDER + warp) * M + m] = sum;
}

// Ḡ[net, ν] = scale Σ_n (chunks of bucket ν − n)[n].  grid: (net, ν); threads: columns
extern "C" __global__ void node_sums(
    const int *chunk_first, const double *parts, int n_nodes, int M, double scale, double *G_bar_enm) {
  const int net = blockIdx.x / n_nodes, node = blockIdx.x % n_nodes;
  for (int m = threadIdx.x; m < M; m += blockDim.x) {
    double sum = 0;
    for (int n = 0; n < ORDER && n <= node; n++) {
      const int bucket = net * n_nodes + node - n;
      for (int c = chunk_first[bucket]; c < chunk_first[bucket + 1]; c++) sum += parts[((long long)c * ORDER + n) * M + m];
    }
    G_bar_enm[(long long)blockIdx.x * M + m] = scale * sum;
  }
}

// Ḡ_vm = scale Σ_i n_iv Σ_k R̃_vk T̄_ikm, the padding slots.  grid: (v, columns); block: NODE_WARPS warps
extern "C" __global__ void virtual_adjoint(
    const double *count_iv, const double *Rt_vk, const double *T_bar_ikm, int n_atoms, int n_v, int M,
    double scale, double *G_bar_vm) {
  __shared__ double sums[NODE_WARPS][WARP];
  const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, m = blockIdx.y * WARP + lane, v = blockIdx.x;
  double sum = 0;
  for (int i = warp; i < n_atoms; i += NODE_WARPS) {
    const double count = count_iv[(long long)i * n_v + v];
    if (count != 0 && m < M)
      for (int k = 0; k < 4; k++) sum += count * Rt_vk[4 * v + k] * T_bar_ikm[((long long)i * 4 + k) * M + m];
  }
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp == 0 && m < M) {
    for (int n = 1; n < NODE_WARPS; n++) sum += sums[n][lane];
    G_bar_vm[v * M + m] = scale * sum;
  }
}
