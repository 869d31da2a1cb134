// Kernels of `cuda.neighbours`: all pairs of a frame within the cut-off, by a grid of bins, in float64.
//
// Atoms are folded into the cell along its periodic vectors and sorted by bin. An atom goes through the bins
// in reach of its own, as often as there are images of them: one loop for large cells and for cells smaller
// than the cut-off. Pairs are counted, then written, then ranked within their centre: the result depends on
// the frame alone, not on the order of threads.
//
// Distances are put together by explicit fused operations, so that i → j and j → i, and the passes that
// count and that write, agree to the last bit on which pairs there are.

// ``geometry``: the cell and its inverse by rows; least fractional coordinate and bins per unit of it
enum { CELL = 0, INVERSE = 9, LOW = 18, DENSITY = 21 };
// ``bins``: how many along each vector; how many of them the cut-off reaches; whether periodic
enum { COUNT = 0, REACH = 3, PERIODIC = 6 };

// The bin of each atom, and how many cells it lies from the first one.  a thread per atom
extern "C" __global__ void place_atoms(
    const double *x_ic, int n_atoms, const double *geometry, const int *bins, int *bin_i, int *fold_id) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n_atoms) return;
  int bin = 0;
  for (int d = 0; d < 3; d++) {
    double s = 0;
    for (int c = 0; c < 3; c++) s = fma(x_ic[3 * i + c], geometry[INVERSE + 3 * c + d], s);
    const double fold = bins[PERIODIC + d] ? floor(s) : 0;
    const double u = (s - fold - geometry[LOW + d]) * geometry[DENSITY + d];
    const int b = u < 0 ? 0 : u >= bins[COUNT + d] ? bins[COUNT + d] - 1 : (int)u;
    fold_id[3 * i + d] = (int)fold;
    bin = bin * bins[COUNT + d] + b;
  }
  bin_i[i] = bin;
}

struct Atoms {
  const double *x_ic, *geometry;
  const int *bins, *bin_i, *fold_id, *order_n, *first_b;
};

struct Neighbour {
  int j, shift[3];
  double r[3], square;
};

// j's image against i:  r = x_j − x_i + Σ_d s_d h_d
__device__ __forceinline__ Neighbour neighbour(const Atoms &a, int i, int j, const int *image) {
  Neighbour n;
  n.j = j, n.square = 0;
  for (int d = 0; d < 3; d++) n.shift[d] = image[d] - a.fold_id[3 * j + d] + a.fold_id[3 * i + d];
  for (int c = 0; c < 3; c++) {
    double r = a.x_ic[3 * j + c] - a.x_ic[3 * i + c];
    for (int d = 0; d < 3; d++) r = fma((double)n.shift[d], a.geometry[CELL + 3 * d + c], r);
    n.r[c] = r, n.square = fma(r, r, n.square);
  }
  return n;
}

// Bin ``b + o`` of ``count``, an image of the one that is returned; −1 where there is none.
__device__ __forceinline__ int wrapped(int at, int count, int periodic, int &image) {
  image = at >= 0 ? at / count : -1 - (-1 - at) / count;
  return image && !periodic ? -1 : at - image * count;
}

// take(near, neighbour) for every atom of every bin in reach of atom i's, by all lanes of a warp together.
template <class Take> __device__ __forceinline__ void visit(const Atoms &a, int i, double cutoff, Take &take) {
  const int lane = threadIdx.x % WARP, *count = a.bins + COUNT, *reach = a.bins + REACH, *periodic = a.bins + PERIODIC;
  const int own = a.bin_i[i], b[3] = {own / (count[1] * count[2]), own / count[2] % count[1], own % count[2]};
  int image[3];
  for (int o0 = -reach[0]; o0 <= reach[0]; o0++) {
    const int c0 = wrapped(b[0] + o0, count[0], periodic[0], image[0]);
    for (int o1 = -reach[1]; o1 <= reach[1] && c0 >= 0; o1++) {
      const int c1 = wrapped(b[1] + o1, count[1], periodic[1], image[1]);
      for (int o2 = -reach[2]; o2 <= reach[2] && c1 >= 0; o2++) {
        const int c2 = wrapped(b[2] + o2, count[2], periodic[2], image[2]);
        if (c2 < 0) continue;
        const int bin = (c0 * count[1] + c1) * count[2] + c2, end = a.first_b[bin + 1];
        for (int n = a.first_b[bin]; n < end; n += WARP) {
          Neighbour found = {};
          bool near = false;
          if (n + lane < end) {
            found = neighbour(a, i, a.order_n[n + lane], image);
            const bool itself = found.j == i && !found.shift[0] && !found.shift[1] && !found.shift[2];
            near = found.square < cutoff * cutoff && !itself;
          }
          take(near, found);
        }
      }
    }
  }
}

// Neighbours of each type, and the shortest square distance, of all pairs and of those that are not left out.
// a warp per atom; ``count_it`` zero before
struct Count {
  const int *types_i, *left_out;  // left_out: of the centre's type, by the neighbour's
  int *count_t;
  double shortest[2];
  __device__ __forceinline__ void operator()(bool near, const Neighbour &n) {
    if (!near) return;
    const int t = types_i[n.j];
    atomicAdd(count_t + t, 1);
    if (n.square < shortest[0]) shortest[0] = n.square;
    if (n.square < shortest[1] && !left_out[t]) shortest[1] = n.square;
  }
};

extern "C" __global__ void count_pairs(
    const double *x_ic, const int *types_i, int n_atoms, const double *geometry, const int *bins, const int *bin_i,
    const int *fold_id, const int *order_n, const int *first_b, double cutoff, const int *left_out_tt, int n_types,
    int *count_it, double *shortest_i) {
  const int lane = threadIdx.x % WARP, i = warp_number();
  if (i >= n_atoms) return;  // alike for all lanes
  const Atoms atoms = {x_ic, geometry, bins, bin_i, fold_id, order_n, first_b};
  Count count = {types_i, left_out_tt + n_types * types_i[i], count_it + n_types * i, {1e300, 1e300}};
  visit(atoms, i, cutoff, count);
  for (int k = 0; k < 2; k++) {
    double least = count.shortest[k];
    for (int d = WARP / 2; d > 0; d /= 2) {
      const double other = __shfl_down_sync(FULL, least, d);
      if (other < least) least = other;
    }
    if (lane == 0) shortest_i[2 * i + k] = least;
  }
}

// The pairs of each centre from first_i[i] on, in the order of bins.  a warp per atom
struct Write {
  const int *types_i, *left_out;
  int i, at, *i_p, *j_p, *shift_pd;
  double *r_pc;
  __device__ __forceinline__ void operator()(bool near, const Neighbour &n) {
    const bool kept = near && !left_out[types_i[n.j]];
    const unsigned all = __ballot_sync(FULL, kept), before = all & ((1u << threadIdx.x % WARP) - 1);
    if (kept) {
      const int p = at + __popc(before);
      i_p[p] = i, j_p[p] = n.j;
      for (int d = 0; d < 3; d++) shift_pd[3 * p + d] = n.shift[d], r_pc[3 * p + d] = n.r[d];
    }
    at += __popc(all);
  }
};

extern "C" __global__ void write_pairs(
    const double *x_ic, const int *types_i, int n_atoms, const double *geometry, const int *bins, const int *bin_i,
    const int *fold_id, const int *order_n, const int *first_b, double cutoff, const int *left_out_tt, int n_types,
    const int *first_i, int *i_p, int *j_p, int *shift_pd, double *r_pc) {
  const int i = warp_number();
  if (i >= n_atoms) return;  // alike for all lanes
  const Atoms atoms = {x_ic, geometry, bins, bin_i, fold_id, order_n, first_b};
  Write write = {types_i, left_out_tt + n_types * types_i[i], i, first_i[i], i_p, j_p, shift_pd, r_pc};
  visit(atoms, i, cutoff, write);
}

// Pairs of a centre in the order of the host: by the neighbour's type, its number, its image.
// A pair's place is the number of pairs before it, no two being alike.  a thread per pair
extern "C" __global__ void rank_pairs(
    const int *types_i, const int *first_i, int n_p, const int *i_p, const int *j_p, const int *shift_pd,
    const double *r_pc, int *j_out, int *shift_out, double *r_out) {
  const int p = blockIdx.x * blockDim.x + threadIdx.x;
  if (p >= n_p) return;
  int place = first_i[i_p[p]];
  for (int q = first_i[i_p[p]]; q < first_i[i_p[p] + 1]; q++) {
    int less = types_i[j_p[q]] - types_i[j_p[p]];
    if (!less) less = j_p[q] - j_p[p];
    for (int d = 0; d < 3 && !less; d++) less = shift_pd[3 * q + d] - shift_pd[3 * p + d];
    place += less < 0;
  }
  j_out[place] = j_p[p];
  for (int d = 0; d < 3; d++) shift_out[3 * place + d] = shift_pd[3 * p + d], r_out[3 * place + d] = r_pc[3 * p + d];
}
