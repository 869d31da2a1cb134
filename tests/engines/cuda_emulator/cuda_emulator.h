// CUDA's words as C++, so that the kernels' own source runs on the host, one block after another.
//
// The threads of a block are fibres: each runs until it meets a barrier or a shuffle, then the next one has
// its turn. A barrier that some thread of the block does not reach is an error. ORDER_OF_THREADS chooses in
// which order blocks, and threads between barriers, run (0 forward, 1 backward, 2 shuffled): a kernel whose
// result depends on it has a race.

#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <type_traits>
#include <ucontext.h>
#include <utility>

#define __global__
#define __device__
#define __constant__ static const
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(...)

struct dim3 { unsigned x, y, z; };
struct alignas(16) double2 { double x, y; };
struct alignas(16) float4 { float x, y, z, w; };

static dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {

enum State { READY, AT_BLOCK, AT_WARP, DONE };
struct Fibre {
  ucontext_t context;
  jmp_buf jump;
  void *place;
  bool begun = false, entered = false;
  State state = DONE;
  double exchanged[2];  // of the last two shuffles: nobody writes again before all have read
  int turn = 0;
  char *stack = nullptr;
};

static const int MOST = 1024, STACK = 1 << 16;
static Fibre fibres[MOST];
static jmp_buf scheduler;
static ucontext_t scheduler_context;
static int current;
static void (*body)();
static const char *failure;
static unsigned long long seed = 88172645463325252ull;

inline unsigned random_below(unsigned n) {
  seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
  return unsigned(seed % n);
}

#if defined(__x86_64__) && !defined(EMULATOR_PORTABLE)
// Save what a call must preserve on this stack, go on with the other one: a fifth of the time of longjmp.
extern "C" void emulator_switch(void **here, void *there);
asm(R"(
.text
emulator_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, (%rdi); movq %rsi, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
)");
static void *scheduler_stack;
inline void to_scheduler(Fibre &f) { emulator_switch(&f.place, scheduler_stack); }
inline void to_fibre(Fibre &f) { emulator_switch(&scheduler_stack, f.place); }
inline void begin(Fibre &f, void (*live)(), int n) {
  void **top = (void **)(((uintptr_t)f.stack + STACK - 320 * (n % 64)) & ~uintptr_t(15));
  *--top = nullptr, *--top = (void *)live;
  f.place = top - 6;  // what emulator_switch pops
}
#else
inline void to_scheduler(Fibre &f) { if (_setjmp(f.jump) == 0) _longjmp(scheduler, 1); }
inline void to_fibre(Fibre &f) {
  if (_setjmp(scheduler)) return;
  if (f.entered) _longjmp(f.jump, 1);
  f.entered = true;
  swapcontext(&scheduler_context, &f.context);
}
inline void begin(Fibre &f, void (*live)(), int n) {
  getcontext(&f.context);
  f.context.uc_stack.ss_sp = f.stack;
  f.context.uc_stack.ss_size = STACK - 320 * (n % 64);
  makecontext(&f.context, live, 0);
  f.entered = false;
}
#endif

inline void give_way(State state) {
  fibres[current].state = state;
  to_scheduler(fibres[current]);
}

static void live() {  // a fibre serves one thread after another
  while (true) {
    body();
    give_way(DONE);
  }
}

inline void resume(int n) {
  current = n;
  threadIdx = {unsigned(n), 0, 0};
  Fibre &f = fibres[n];
  if (!f.begun) {
    f.begun = true;
    if (!f.stack) f.stack = (char *)malloc(STACK);
    begin(f, live, n);  // stacks are staggered, or all would share the same lines of cache
  }
  to_fibre(f);
}

// Let those who wait at a barrier go on, if all of them are there; false if nobody can.
inline bool release(int n, State barrier, int width) {
  bool any = false;
  for (int first = 0; first < n; first += width) {
    int there = 0;
    for (int k = first; k < first + width && k < n; k++) there += fibres[k].state == barrier;
    if (there == (width < n - first ? width : n - first) && there > 0) {
      for (int k = first; k < first + there; k++) fibres[k].state = READY;
      any = true;
    }
  }
  return any;
}

// The numbers below n in the order asked for; the caller frees them.
inline int *ordered(int n, int order) {
  int *out = (int *)malloc(n * sizeof(int));
  for (int k = 0; k < n; k++) out[k] = order == 1 ? n - 1 - k : k;
  for (int k = n - 1; order == 2 && k > 0; k--) {
    const int other = random_below(k + 1), kept = out[k];
    out[k] = out[other], out[other] = kept;
  }
  return out;
}

inline void run_block(int n, const int *turns) {
  for (int k = 0; k < n; k++) fibres[k].state = READY, fibres[k].turn = 0;
  while (true) {
    for (int k = 0; k < n; k++)
      if (fibres[turns[k]].state == READY) resume(turns[k]);
    int done = 0;
    for (int k = 0; k < n; k++) done += fibres[k].state == DONE;
    if (done == n) return;
    if (release(n, AT_WARP, 32)) continue;
    if (release(n, AT_BLOCK, n)) continue;
    failure = "threads wait at a barrier that others have not reached";
    for (int k = 0; k < n; k++) fibres[k].begun = false;
    return;
  }
}

template <class T> void add_kind(char *text) {
  using U = std::remove_cv_t<std::remove_pointer_t<T>>;
  strcat(text, std::is_same_v<U, double> ? "float64" : std::is_same_v<U, float> ? "float32"
             : std::is_same_v<U, int> ? "int32" : "unknown");
  if (std::is_pointer_v<T>) strcat(text, std::is_const_v<std::remove_pointer_t<T>> ? "[r]" : "[w]");
  strcat(text, " ");
}

template <class... A> const char *signature(void (*)(A...)) {
  static char text[1024];
  text[0] = 0;
  (add_kind<A>(text), ...);
  return text;
}

// One launch: a kernel and where its arguments are.
template <class... A> struct Call {
  static inline void (*kernel)(A...);
  static inline void **arguments;

  template <size_t... I> static void with(std::index_sequence<I...>) {
    kernel(*(std::remove_cv_t<A> *)arguments[I]...);
  }
  static void run() { with(std::index_sequence_for<A...>()); }
};

template <class... A>
const char *launch(void (*kernel)(A...), unsigned gx, unsigned gy, unsigned threads, int order, void **arguments) {
  Call<A...>::kernel = kernel, Call<A...>::arguments = arguments;
  body = Call<A...>::run;
  gridDim = {gx, gy, 1}, blockDim = {threads, 1, 1};
  failure = "";
  int *blocks = ordered(gx * gy, order), *turns = ordered(threads, order);
  for (unsigned b = 0; b < gx * gy && !*failure; b++) {
    blockIdx = {unsigned(blocks[b]) % gx, unsigned(blocks[b]) / gx, 0};
    run_block(threads, turns);
  }
  free(blocks), free(turns);
  return failure;
}

// Bits of a warp's lanes: those below the block's end, all of which take part.
inline unsigned ballot(bool value) {
  int turn = fibres[current].turn ^= 1;
  fibres[current].exchanged[turn] = value;
  give_way(AT_WARP);
  unsigned bits = 0;
  for (int lane = 0; lane < 32 && current / 32 * 32 + lane < (int)blockDim.x; lane++)
    bits |= unsigned(fibres[current / 32 * 32 + lane].exchanged[turn]) << lane;
  return bits;
}

template <class T> T exchange(T value, int source) {
  static_assert(sizeof(T) <= sizeof(double));
  int turn = fibres[current].turn ^= 1;
  memcpy(&fibres[current].exchanged[turn], &value, sizeof(T));
  give_way(AT_WARP);
  int lane = source < 0 || source > 31 ? current % 32 : source;
  T result;
  memcpy(&result, &fibres[current / 32 * 32 + lane].exchanged[turn], sizeof(T));
  return result;
}

}  // namespace emulator

inline void __syncthreads() { emulator::give_way(emulator::AT_BLOCK); }
template <class T> T __shfl_down_sync(unsigned, T x, int d) { return emulator::exchange(x, emulator::current % 32 + d); }
template <class T> T __shfl_sync(unsigned, T x, int lane) { return emulator::exchange(x, lane); }
inline unsigned __ballot_sync(unsigned, bool x) { return emulator::ballot(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int atomicAdd(int *x, int y) { int old = *x; *x += y; return old; }
inline int atomicCAS(int *x, int if_this, int y) { int old = *x; if (old == if_this) *x = y; return old; }

#define EMULATE(kernel)                                                                                   \
  extern "C" const char *signature_##kernel() { return emulator::signature(kernel); }                    \
  extern "C" const char *launch_##kernel(unsigned gx, unsigned gy, unsigned n, int order, void **a) {     \
    return emulator::launch(kernel, gx, gy, n, order, a);                                                 \
  }
