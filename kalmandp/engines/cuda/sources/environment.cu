// Kernels of `cuda.deep_potential`: what does not depend on the weights. A thread has a pair, or an atom.
// Letters as in `arrays`; pairs of atom i are first_i[i] … first_i[i+1]−1.

// R̃ and ∂R̃/∂r, the equations of `raw_environment`.  a thread per pair
extern "C" __global__ void pair_environment(
    const int *types_i, const int *i_p, const double *r_pc, int n_p, double rcut_smth, double rcut,
    const double *davg, const double *dstd, double *Rt_pk, double *dRt_pkc) {
  const int p = blockIdx.x * blockDim.x + threadIdx.x;
  if (p >= n_p) return;
  const double *mean = davg + 4 * types_i[i_p[p]], *spread = dstd + 4 * types_i[i_p[p]];
  double n[3] = {r_pc[3 * p], r_pc[3 * p + 1], r_pc[3 * p + 2]};
  const double r = sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2]);
  // w(u) = u³ (A u² + B u + C) + 1
  const double u = (r - rcut_smth) / (rcut - rcut_smth);
  double w = 1, dw = 0;
  if (u >= 1) w = 0;
  else if (u > 0) {
    w = u * u * u * (SWITCH_A * u * u + SWITCH_B * u + SWITCH_C) + 1;
    dw = u * u * (5 * SWITCH_A * u * u + 4 * SWITCH_B * u + 3 * SWITCH_C) / (rcut - rcut_smth);
  }
  // s = w/r,  ds = w′/r − w/r²;   R_d = s n_d,  ∂R_d/∂r_c = (ds − s/r) n_d n_c + δ_dc s/r
  const double s = w / r, ds = (dw - s) / r;
  Rt_pk[4 * p] = (s - mean[0]) / spread[0];
  for (int d = 0; d < 3; d++) n[d] /= r;
  for (int d = 0; d < 3; d++) {
    Rt_pk[4 * p + 1 + d] = (s * n[d] - mean[1 + d]) / spread[1 + d];
    dRt_pkc[12 * p + d] = ds * n[d] / spread[0];
    for (int c = 0; c < 3; c++)
      dRt_pkc[12 * p + 3 * (1 + d) + c] = ((ds - s / r) * n[d] * n[c] + (c == d ? s / r : 0)) / spread[1 + d];
  }
}

// The pair j → i whose vector is −r_p; images of an atom differ by a lattice vector.  a thread per pair
extern "C" __global__ void match_back(
    const int *first_i, const int *i_p, const int *j_p, const double *r_pc, int n_p, int *back_p) {
  const int p = blockIdx.x * blockDim.x + threadIdx.x;
  if (p >= n_p) return;
  double best = 1e300;
  for (int q = first_i[j_p[p]]; q < first_i[j_p[p] + 1]; q++)
    if (j_p[q] == i_p[p]) {
      double apart = 0;
      for (int c = 0; c < 3; c++) apart += (r_pc[3 * q + c] + r_pc[3 * p + c]) * (r_pc[3 * q + c] + r_pc[3 * p + c]);
      if (apart < best) best = apart, back_p[p] = q;
    }
}

// n_iv = sel − (neighbours of kind v) for kinds whose centre is atom i's type, else 0.  a thread per atom
extern "C" __global__ void padding_counts(
    const int *types_i, const int *first_i, const int *j_p, int n_atoms, int n_types, const double *sel_v,
    double *count_iv) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n_atoms) return;
  double *count_v = count_iv + (long long)i * n_types * n_types;
  for (int v = 0; v < n_types * n_types; v++) count_v[v] = v / n_types == types_i[i] ? sel_v[v] : 0;
  for (int p = first_i[i]; p < first_i[i + 1]; p++) count_v[types_i[i] * n_types + types_i[j_p[p]]] -= 1;
}

// The bucket (net, ν) of each pair in the table, by which pairs are sorted.  a thread per pair
extern "C" __global__ void buckets(
    const int *net_p, const double *Rt_pk, int n_p, double step, int start, int n_nodes, int *bucket_p) {
  const int p = blockIdx.x * blockDim.x + threadIdx.x;
  if (p < n_p) bucket_p[p] = net_p[p] * n_nodes + (int)floor(Rt_pk[4 * p] / step) - (ORDER / 2 - 1) - start;
}
