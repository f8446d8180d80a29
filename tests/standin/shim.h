/* CUDA's names for a C compiler. A launch runs all threads of all blocks in turn, on request the last ones
   first, because kernels must not rely on the order.
   A kernel with barriers runs the threads of a block as coroutines, each up to the next barrier. */
#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <ucontext.h>

typedef struct { unsigned x, y, z; } dim;
static dim threadIdx, blockIdx, blockDim, gridDim;

#define __global__ static
#define __device__ static
#define __shared__ static
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __threadfence() ((void)0) /* blocks run one after the other */
#define __ldcg(address) (*(address))
typedef struct { float x, y, z, w; } float4;

static unsigned short float16(float x) {
    union { _Float16 number; unsigned short bits; } rounded = {x};
    return rounded.bits;
}
#define min(a, b) ((a) < (b) ? (a) : (b))
#define max(a, b) ((a) > (b) ? (a) : (b))

static int atomicMin(int *address, int value) {
    int old = *address;
    *address = min(old, value);
    return old;
}

static unsigned atomicInc(unsigned *address, unsigned most) {
    unsigned old = *address;
    *address = old >= most ? 0 : old + 1;
    return old;
}

static unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}

#define STACK (32 << 10)
static ucontext_t starts[1024];
static jmp_buf scheduler, coroutines[1024]; /* faster than swapcontext, which makes a system call each time */
static char *stacks, finished[1024];
static int current, backwards;
static void (*body)(void **);
static void **arguments;

static unsigned nth(unsigned i, unsigned count) { return backwards ? count - 1 - i : i; }

static void __syncthreads(void) {
    dim here = threadIdx;
    if (!_setjmp(coroutines[current])) _longjmp(scheduler, 1);
    threadIdx = here;
}

static void coroutine(void) {
    body(arguments);
    finished[current] = 1;
    _longjmp(scheduler, 1);
}

/* 0, or 1 if some threads of a block ended while others waited for them. */
static int run_block(int threads) {
    if (!stacks) stacks = malloc((size_t)1024 * STACK);
    for (int i = 0; i < threads; ++i) {
        getcontext(&starts[i]);
        starts[i].uc_stack.ss_sp = stacks + (size_t)i * STACK;
        starts[i].uc_stack.ss_size = STACK;
        starts[i].uc_link = 0;
        makecontext(&starts[i], coroutine, 0);
        finished[i] = 0;
    }
    volatile int ended = 0, first = 1;
    while (ended < threads) {
        volatile int before = ended;
        for (volatile int turn = 0; turn < threads; ++turn) {
            volatile int i = nth(turn, threads);
            if (finished[i]) continue;
            current = i;
            threadIdx = (dim){i % blockDim.x, i / blockDim.x, 0};
            if (!_setjmp(scheduler)) {
                if (first) setcontext(&starts[i]);
                _longjmp(coroutines[i], 1);
            }
            ended += finished[i];
        }
        first = 0;
        if (ended != before && ended != threads) return 1;
    }
    return 0;
}

static int run(void (*kernel)(void **), const unsigned *grid, const unsigned *block, void **given, int barriers,
               int last_first) {
    body = kernel, arguments = given, backwards = last_first;
    gridDim = (dim){grid[0], grid[1], 1}, blockDim = (dim){block[0], block[1], 1};
    for (unsigned y = 0; y < grid[1]; ++y)
        for (unsigned x = 0; x < grid[0]; ++x) {
            blockIdx = (dim){nth(x, grid[0]), nth(y, grid[1]), 0};
            if (barriers) {
                if (run_block(block[0] * block[1])) return 1;
            } else
                for (unsigned j = 0; j < block[1]; ++j)
                    for (unsigned i = 0; i < block[0]; ++i) {
                        threadIdx = (dim){nth(i, block[0]), nth(j, block[1]), 0};
                        kernel(given);
                    }
        }
    return 0;
}
