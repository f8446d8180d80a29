// The DCGAN's training step, except its large matrix products. It is plain C, so a test can run it on a CPU.
//
// Shapes. The first axis is the example t. A map with a quarter of the pictures' side has SIDE x SIDE places p:
// (t, p, channel). A map with half the side is stored by phases, (t, p, phase, channel): pixel (y, x) belongs
// to place (y / 2, x / 2) and phase 2 (y % 2) + x % 2. Pictures are (t, y, x, channel), with CHANNELS channels.
// The compiler's options set SIDE, CHANNELS, WIDE, LIFTED_BITS, THREADS (in a block, at most), QUADS and STRIP.
//
// No sum depends on the order of threads: repeated on the same card, a step gives the same bits.
// benchmarks/results/README.md has what each idea saves, in launches and bytes.

#ifdef __cplusplus
extern "C" {
#endif

#define PLACES (SIDE * SIDE)
#define HALF (2 * SIDE)
#define FULL (4 * SIDE)
#define TAPS 5     // side of every kernel
#define BEFORE 1   // zeros before a picture that a convolution of stride 2 reads
#define WINDOW (TAPS * TAPS * CHANNELS)
#define PICTURE (FULL * FULL * CHANNELS)
#define UNIT 1.1102230246251565e-16  // 2^-53: 53 random bits times this are a number in [0, 1)

typedef unsigned long long word;

// WIDE neighbouring channels: 4, read and written at once, or 1 if some number of channels is not a multiple of 4.
typedef struct __align__(4 * WIDE) { float at[WIDE]; } vector;

#define EACH for (int i = 0; i < WIDE; ++i)

__device__ vector load(const float *from) { return *(const vector *)from; }
__device__ void store(float *to, vector x) { *(vector *)to = x; }

__device__ vector vector_of(float value) {
    vector x;
    EACH x.at[i] = value;
    return x;
}

__device__ void add(vector *sum, float weight, vector x) { EACH sum->at[i] += weight * x.at[i]; }

#define INDEX ((int)(blockIdx.x * blockDim.x + threadIdx.x))  // of a thread in a one-dimensional grid

// The type of lifted maps and kernels, the factors of products: float32, or float16 bits, rounded to nearest.
#if LIFTED_BITS == 32
typedef float lifted;
#define LIFTED(x) (x)
#else
typedef unsigned short lifted;
#define LIFTED(x) float16(x)
#endif
#ifdef __cplusplus  // the tests' C compiler has its own version
__device__ unsigned short float16(float x) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}
#endif
typedef struct __align__(LIFTED_BITS / 8 * WIDE) { lifted at[WIDE]; } lifted_vector;

__device__ void store_lifted(lifted *to, vector x) {
    lifted_vector y;
    EACH y.at[i] = LIFTED(x.at[i]);
    *(lifted_vector *)to = y;
}

#define FIRST_THREAD (threadIdx.x == 0 && threadIdx.y == 0)

// The sum of x over a block's threads with the same threadIdx.x, returned to all of them; their number is a power of 2.
__device__ vector block_sum(vector x) {
    __shared__ vector shared[THREADS];
    int lane = threadIdx.y, width = blockDim.x, at = lane * width + threadIdx.x;
    shared[at] = x;
    for (int lanes = blockDim.y / 2; lanes > 0; lanes /= 2) {
        __syncthreads();
        if (lane < lanes) add(&shared[at], 1, shared[at + lanes * width]);
    }
    __syncthreads();
    vector sum = shared[threadIdx.x];
    __syncthreads();
    return sum;
}

// Whether this block is the last of `count`: it may `shared_load` what all stored. `arrived` is 0 before and after.
__device__ int last_of(unsigned *arrived, unsigned count) {
    __shared__ int last;
    __threadfence();
    __syncthreads();
    if (FIRST_THREAD) last = atomicInc(arrived, count - 1) == count - 1;
    __syncthreads();
    if (last) __threadfence();
    return last;
}

// Loads what another block has stored, from the cache that all blocks share.
__device__ vector shared_load(const float *from) {
#if WIDE == 4
    float4 x = __ldcg((const float4 *)from);
    vector y = {{x.x, x.y, x.z, x.w}};
#else
    vector y = {{__ldcg(from)}};
#endif
    return y;
}

// Sums over the rows of a matrix (rows, C). A block has some columns and a chunk of rows, FIRST_ROW to END_ROW.

#define COLUMN ((int)(blockIdx.x * blockDim.x + threadIdx.x) * WIDE)
#define CHUNK ((int)blockIdx.y)
#define CHUNKS ((int)gridDim.y)
#define CHUNK_ROWS(rows) (((rows) + CHUNKS - 1) / CHUNKS)
#define FIRST_ROW(rows) (CHUNK * CHUNK_ROWS(rows))
#define END_ROW(rows) min((CHUNK + 1) * CHUNK_ROWS(rows), rows)
#define LANE ((int)threadIdx.y)
#define LANES ((int)blockDim.y)

// Replaces x and y by their sums over the block, and stores these in X and Y (C).
__device__ void block_sums(vector *x, vector *y, int C, float *X, float *Y) {
    *x = block_sum(*x);
    *y = block_sum(*y);
    if (COLUMN < C && LANE == 0) {
        store(X + COLUMN, *x);
        store(Y + COLUMN, *y);
    }
}

// Adds up each thread's parts x and y of a column over all chunks. The last block stores the sums in X and Y (C),
// has them in x and y, and returns 1; others return 0. Shares (chunks, 2, C) are added in order.
__device__ int add_up(vector *x, vector *y, int C, float *shares, unsigned *arrived, float *X, float *Y) {
    int c = COLUMN;
    block_sums(x, y, C, shares + 2 * CHUNK * C, shares + (2 * CHUNK + 1) * C);
    if (!last_of(arrived + blockIdx.x, CHUNKS)) return 0;
    *x = *y = vector_of(0);
    if (c < C)
        for (int chunk = LANE; chunk < CHUNKS; chunk += LANES) {
            add(x, 1, shared_load(shares + 2 * chunk * C + c));
            add(y, 1, shared_load(shares + (2 * chunk + 1) * C + c));
        }
    block_sums(x, y, C, X, Y);
    return 1;
}

// Random numbers: Philox 4x64-10, as `rng.Stream.words` draws them.
__device__ void philox(word counter[4], word key0, word key1) {
    for (int round = 0; round < 10; ++round) {
        word left = 0xD2E7470EE14C6C93ULL, right = 0xCA5A826395121157ULL;
        word left_high = __umul64hi(left, counter[0]), left_low = left * counter[0];
        word right_high = __umul64hi(right, counter[2]), right_low = right * counter[2];
        counter[0] = right_high ^ counter[1] ^ key0;
        counter[1] = right_low;
        counter[2] = left_high ^ counter[3] ^ key1;
        counter[3] = left_low;
        key0 += 0x9E3779B97F4A7C15ULL;
        key1 += 0xBB67AE8584CAA73BULL;
    }
}

// Draws standard normal numbers z (count), starting at number `start` of the whole batch: the `i`th block of four.
// See `rng.Stream.normal`. A product with a lifted array reads z_lifted, which may be z itself.
__device__ void draw_noise(float *z, lifted *z_lifted, word start, int count, word key0, word key1, word step,
        word i) {
    word block = start / 4 + i;
    int at = (int)(4 * block - start);  // index of the block's first number in z; negative if z begins within it
    if (at >= count) return;
    word words[4] = {block + 1, step, 0, 0};
    philox(words, key0, key1);
    for (int pair = 0; pair < 2; ++pair) {
        double radius = sqrt(-2 * log(((words[2 * pair] >> 11) + 1) * UNIT));
        double angle = 6.283185307179586 * ((words[2 * pair + 1] >> 11) * UNIT);
        int j = at + 2 * pair;
        if (j >= 0 && j < count) z_lifted[j] = LIFTED(z[j] = (float)(radius * cos(angle)));
        if (j + 1 >= 0 && j + 1 < count) z_lifted[j + 1] = LIFTED(z[j + 1] = (float)(radius * sin(angle)));
    }
}

#define MASK_WORDS(each) (((each) + 15) / 16)  // for an example's `each` elements

// 16 elements of a mask from element `start` of the whole batch on, one bit each, 1: kept. See `Stream.keep`.
__device__ unsigned short draw_mask(word start, word key0, word key1, word step, int pass, int layer,
        int threshold) {
    unsigned bits = 0;
    for (word block = start / 16; block <= (start + 15) / 16; ++block) {
        word words[4] = {block + 1, step, (word)pass, (word)layer};
        philox(words, key0, key1);
        for (int i = 0; i < 16; ++i) {
            int at = (int)(16 * block - start) + i;
            int kept = (int)(words[i / 4] >> (16 * (i % 4)) & 0xFFFF) >= threshold;
            if (at >= 0 && at < 16) bits |= (unsigned)kept << at;
        }
    }
    return (unsigned short)bits;
}

// Each thread prepares a part of: N pictures of a batch from number `first` on, scaled from bytes to [-1, 1]; `count`
// numbers of noise from number `start` on; the masks of D's layers (C1 and C2 channels) for these pictures and for M
// fakes from number `first_fake` on. clock: this step's number, from 1, and Adam's t. rate: step sizes of G and D at t.
__global__ void begin(float *pictures, const unsigned char *images, const int *order, int first, int N, int batch,
        int steps_per_epoch, float *z, lifted *z_lifted, word start, int count, word noise0, word noise1,
        unsigned short *mask1, int C1, int threshold1, unsigned short *mask2, int C2, int threshold2, int first_fake,
        int M, word key0, word key1, long long *clock, float *rate, double lr_G, double lr_D, double beta1,
        double beta2, unsigned *arrived) {
    int thread = INDEX, at = thread * WIDE;
    word step = (word)clock[0];
    if (at < N * PICTURE) {
        int place = (int)(step % steps_per_epoch) * batch + first + at / PICTURE;
        const unsigned char *bytes = images + (long long)order[place] * PICTURE + at % PICTURE;
        vector picture;
        EACH picture.at[i] = ((float)bytes[i] - 127.5f) / 127.5f;
        store(pictures + at, picture);
    }
    draw_noise(z, z_lifted, start, count, noise0, noise1, step, (word)thread);
    for (int layer = 0; layer < 2; ++layer) {
        int each = layer ? PLACES * C2 : HALF * HALF * C1, words = MASK_WORDS(each);
        int t = thread / words, fake = t >= N;
        word from = (word)(fake ? first_fake + t - N : first + t) * each + 16 * (thread % words);
        if (t < N + M)
            (layer ? mask2 : mask1)[thread] =
                draw_mask(from, key0, key1, step, fake, layer, layer ? threshold2 : threshold1);
    }
    if (!last_of(arrived, gridDim.x) || !FIRST_THREAD) return;
    clock[0] += 1;
    clock[1] += 1;
    double t = (double)clock[1], factor = sqrt(1 - pow(beta2, t)) / (1 - pow(beta1, t));
    rate[0] = (float)(lr_G * factor);
    rate[1] = (float)(lr_D * factor);
}

// G's batch norm and LeakyReLU: h (rows, C) -> a. `known` (4, C): mean, inverse_std, gamma, beta of each channel.

typedef struct { vector mean, inverse_std, gamma, beta; } Norm;

__device__ Norm norm_of(const float *known, int c, int C) {
    Norm n = {load(known + c), load(known + C + c), load(known + 2 * C + c), load(known + 3 * C + c)};
    return n;
}

// a = LeakyReLU(gamma (h - mean) inverse_std + beta)
__device__ vector normalised(vector h, Norm n, float slope) {
    EACH {
        float y = (h.at[i] - n.mean.at[i]) * n.inverse_std.at[i] * n.gamma.at[i] + n.beta.at[i];
        h.at[i] = y > 0 ? y : slope * y;
    }
    return h;
}

// From the sums over `rows` rows of h - x0 and of its square: sets `known` and updates the running mean and variance.
// With x0 near the mean, subtraction cancels few digits (Chan, Golub & LeVeque 1983).
__device__ void learn(vector sum, vector squares, const float *x0, int rows, int c, int C, const float *gamma,
        const float *beta, float eps, float momentum, float *known, float *running_mean, float *running_variance) {
    EACH {
        float shift = sum.at[i] / rows, variance = fmaxf(squares.at[i] / rows - shift * shift, 0);
        float mean = x0[c + i] + shift;
        running_mean[c + i] = momentum * running_mean[c + i] + (1 - momentum) * mean;
        running_variance[c + i] = momentum * running_variance[c + i] + (1 - momentum) * variance;
        known[c + i] = mean;
        known[C + c + i] = 1 / sqrtf(variance + eps);
        known[2 * C + c + i] = gamma[c + i];
        known[3 * C + c + i] = beta[c + i];
    }
}

// x0 (C): for example the first row of h. `alone`: the sums are those of the whole batch, and `learn` uses them. Then
// this also computes a, if a is `stored` and one block has all rows of a column.
__global__ void moments(const float *h, int rows, int C, float *shares, unsigned *arrived, float *sums,
        int alone, const float *x0, const float *gamma, const float *beta, float eps, float momentum, float *known,
        float *running_mean, float *running_variance, float slope, int stored, lifted *a) {
    int c = COLUMN, end = END_ROW(rows);
    vector sum = {0}, squares = {0}, origin = load(x0 + (c < C ? c : 0));
    if (c < C)
        for (int row = FIRST_ROW(rows) + LANE; row < end; row += LANES) {
            vector x = load(h + row * C + c);
            EACH {
                float distance = x.at[i] - origin.at[i];
                sum.at[i] += distance;
                squares.at[i] += distance * distance;
            }
        }
    if (!add_up(&sum, &squares, C, shares, arrived, sums, sums + C) || !alone) return;
    if (c < C && LANE == 0)
        learn(sum, squares, x0, rows, c, C, gamma, beta, eps, momentum, known, running_mean, running_variance);
    __syncthreads();
    if (CHUNKS == 1 && stored && c < C)
        for (int row = LANE; row < rows; row += LANES)
            store_lifted(a + row * C + c, normalised(load(h + row * C + c), norm_of(known, c, C), slope));
}

// The same `learn`, from sums (2, C) that were added up over all ranks.
__global__ void learn_from_all(const float *sums, int rows, int C, const float *x0, const float *gamma,
        const float *beta, float eps, float momentum, float *known, float *running_mean, float *running_variance) {
    int c = INDEX * WIDE;
    if (c < C)
        learn(load(sums + c), load(sums + C + c), x0, rows, c, C, gamma, beta, eps, momentum, known, running_mean,
              running_variance);
}

__global__ void normalise(const float *h, const float *known, int count, int C, float slope, lifted *a) {
    int at = INDEX * WIDE;
    if (at < count) store_lifted(a + at, normalised(load(h + at), norm_of(known, at % C, C), slope));
}

// Backward, from da: xhat, the normalised numbers before gamma and beta, and g, the gradient before LeakyReLU.
__device__ void before_relu(vector da, vector h, Norm n, float slope, vector *xhat, vector *g) {
    EACH {
        float x = xhat->at[i] = (h.at[i] - n.mean.at[i]) * n.inverse_std.at[i];
        g->at[i] = x * n.gamma.at[i] + n.beta.at[i] > 0 ? da.at[i] : slope * da.at[i];
    }
}

// sum += g, product += g xhat: the gradients of beta and gamma.
__device__ void add_norm(vector da, vector h, Norm n, float slope, vector *sum, vector *product) {
    vector xhat, g;
    before_relu(da, h, n, slope, &xhat, &g);
    add(sum, 1, g);
    EACH product->at[i] += g.at[i] * xhat.at[i];
}

// dh = gamma inverse_std (g - (sum + xhat product) / M), with M rows in the whole batch.
__device__ vector norm_back(vector da, vector h, Norm n, float slope, vector sum, vector product, int M) {
    vector xhat, g;
    before_relu(da, h, n, slope, &xhat, &g);
    EACH {
        float others = (sum.at[i] + xhat.at[i] * product.at[i]) / M;
        h.at[i] = n.gamma.at[i] * n.inverse_std.at[i] * (g.at[i] - others);
    }
    return h;
}

// Both sums, into dbeta and dgamma and into sums (2, C). If `alone`, a block with all rows computes dh (may be h).
__global__ void normalise_sums(const float *da, const float *h, const float *known, int rows, int C, float slope,
        float *shares, unsigned *arrived, float *dbeta, float *dgamma, float *sums, int alone, lifted *dh) {
    int c = COLUMN, end = END_ROW(rows);
    vector sum = {0}, product = {0};
    Norm n = norm_of(known, c < C ? c : 0, C);
    if (c < C)
        for (int at = (FIRST_ROW(rows) + LANE) * C + c; at < end * C; at += LANES * C)
            add_norm(load(da + at), load(h + at), n, slope, &sum, &product);
    if (!add_up(&sum, &product, C, shares, arrived, dbeta, dgamma) || c >= C) return;
    if (LANE == 0) {
        store(sums + c, sum);
        store(sums + C + c, product);
    }
    if (CHUNKS == 1 && alone)
        for (int at = LANE * C + c; at < rows * C; at += LANES * C)
            store_lifted(dh + at, norm_back(load(da + at), load(h + at), n, slope, sum, product, rows));
}

__global__ void normalise_back(const float *da, const float *h, const float *known, const float *sums, int M,
        int count, int C, float slope, lifted *dh) {
    int at = INDEX * WIDE, c = at % C;
    if (at >= count) return;
    vector sum = load(sums + c), product = load(sums + C + c);
    store_lifted(dh + at, norm_back(load(da + at), load(h + at), norm_of(known, c, C), slope, sum, product, M));
}

// Lifts a kernel (TAPS, TAPS, C, F) to W (R, 2, phases C, 2, F), and back; see `frequencies`. K (taps, R, 2, 2).

// The phase, of stride^2, whose pixels the tap reads. The stride is 1 or 2.
__device__ int phase_of(int tap, int stride) {
    int before = (TAPS - stride) / 2, odd = stride - 1;
    return ((tap / TAPS + before) & odd) * stride + ((tap % TAPS + before) & odd);
}

// W[r, i, (phase, c), j, f] = sum over the phase's taps of K[tap, r, i, j] kernel[tap, c, f]; r is blockIdx.y.
__global__ void lift_kernel(const float *kernel, const float *K, int R, int stride, int C, int F, lifted *W) {
    int at = INDEX * WIDE, depth = stride * stride * C, r = blockIdx.y;
    if (at >= depth * F) return;
    int f = at % F, row = at / F, c = row % C;
    vector sums[4] = {0};
    for (int tap = 0; tap < TAPS * TAPS; ++tap)
        if (phase_of(tap, stride) == row / C) {
            vector w = load(kernel + (tap * C + c) * F + f);
            for (int k = 0; k < 4; ++k) add(&sums[k], K[(tap * R + r) * 4 + k], w);
        }
    for (int k = 0; k < 4; ++k)
        store_lifted(W + (((r * 2 + k / 2) * depth + row) * 2 + k % 2) * F + f, sums[k]);
}

// The transpose: dkernel[tap, c, f] = sum over r, i, j of K[tap, r, i, j] dW[r, i, (phase, c), j, f].
__global__ void lower_kernel(const float *dW, const float *K, int R, int stride, int C, int F, float *dkernel) {
    int at = COLUMN, depth = stride * stride * C, f = at % F, row = at / F;
    unsigned met = 0;  // a bit for each tap of this phase
    for (int tap = 0; tap < TAPS * TAPS; ++tap) met |= (unsigned)(phase_of(tap, stride) == row / C) << tap;
    vector sums[TAPS * TAPS] = {0};
    if (at < depth * F)
        for (int r = LANE; r < R; r += LANES)
            for (int k = 0; k < 4; ++k) {
                vector w = load(dW + (((r * 2 + k / 2) * depth + row) * 2 + k % 2) * F + f);
                const float *own = K + r * 4 + k;
                for (int tap = 0; tap < TAPS * TAPS; ++tap, own += 4 * R)
                    if (met >> tap & 1) add(&sums[tap], *own, w);
            }
    row %= C;
    for (int tap = 0; tap < TAPS * TAPS; ++tap) {
        vector sum = block_sum(sums[tap]);
        if (LANE == 0 && met >> tap & 1) store(dkernel + (tap * C + row) * F + f, sum);
    }
}

// Direct convolution of stride 2, between pictures and a map of half the side. Kernels: (TAPS, TAPS, CHANNELS, C).

#define PATCH (TAPS + 2)  // side of the patch that the four pixels of a place see together

// sums[phase]: the convolution at the four pixels of place p, for WIDE channels from c on.
__device__ void convolve(const float *picture, const float *kernel, int p, int c, int C, vector sums[4]) {
    int top = p / SIDE * 4 - BEFORE, left = p % SIDE * 4 - BEFORE;
    for (int phase = 0; phase < 4; ++phase) sums[phase] = vector_of(0);
    for (int channel = 0; channel < CHANNELS; ++channel) {
        float patch[PATCH * PATCH];
        for (int j = 0; j < PATCH * PATCH; ++j) {
            int Y = top + j / PATCH, X = left + j % PATCH;
            int inside = Y >= 0 && Y < FULL && X >= 0 && X < FULL;
            patch[j] = inside ? picture[(Y * FULL + X) * CHANNELS + channel] : 0;
        }
        for (int tap = 0; tap < TAPS * TAPS; ++tap) {
            vector w = load(kernel + (tap * CHANNELS + channel) * C + c);
            for (int phase = 0; phase < 4; ++phase)
                add(&sums[phase], patch[(tap / TAPS + phase / 2 * 2) * PATCH + tap % TAPS + phase % 2 * 2], w);
        }
    }
}

// A block has the pixels of the smaller map in a strip of rows and, unless that is the whole map, in the rows above and
// below it, which also contribute to the pictures.
#define PART_OF_MAP (STRIP < HALF)
#define TOP ((int)blockIdx.y * STRIP - PART_OF_MAP)
#define OWN_Y (TOP + (int)threadIdx.x / HALF)  // of the thread's pixel
#define OWN_X ((int)threadIdx.x % HALF)
#define OWN_PIXEL (OWN_Y >= 0 && OWN_Y < HALF && (int)threadIdx.x < (STRIP + 2 * PART_OF_MAP) * HALF)
#define OWN_ROW ((OWN_Y / 2 * SIDE + OWN_X / 2) * 4 + OWN_Y % 2 * 2 + OWN_X % 2)  // (place, phase)

// columns[tap] += the dot product of a pixel's numbers x and kernel[tap, channel, c], for every tap.
__device__ void spread(vector x, const float *kernel, int channel, int c, int C, float columns[TAPS * TAPS]) {
    for (int tap = 0; tap < TAPS * TAPS; ++tap) {
        vector w = load(kernel + (tap * CHANNELS + channel) * C + c);
        EACH columns[tap] += x.at[i] * w.at[i];
    }
}

// Pixel (Y, X) of a picture: the sum of its entries in the columns of all windows that contain it.
__device__ float collect(const float *columns, int Y, int X) {
    float sum = 0;
    for (int y = max(Y + BEFORE - TAPS + 2, 0) / 2; y <= min((Y + BEFORE) / 2, HALF - 1); ++y)
        for (int x = max(X + BEFORE - TAPS + 2, 0) / 2; x <= min((X + BEFORE) / 2, HALF - 1); ++x) {
            int tap = (Y + BEFORE - 2 * y) * TAPS + X + BEFORE - 2 * x;
            sum += columns[((y - TOP) * HALF + x) * TAPS * TAPS + tap];
        }
    return sum;
}

// A kernel's body: transposed convolution of a map (.., p, phase, C) to pictures, with a block per strip of each t.
// VALUE: WIDE numbers of the map at `at`, channels from c on. RESULT: stores `sum` for number `at` of pictures.
#define TRANSPOSED(VALUE, RESULT) \
    __shared__ float columns[THREADS * TAPS * TAPS]; \
    int t = blockIdx.x; \
    for (int channel = 0; channel < CHANNELS; ++channel) { \
        float own[TAPS * TAPS] = {0}; \
        if (OWN_PIXEL) \
            for (int c = 0; c < C; c += WIDE) { \
                int at = (t * PLACES * 4 + OWN_ROW) * C + c; \
                spread(VALUE, kernel, channel, c, C, own); \
            } \
        for (int tap = 0; tap < TAPS * TAPS; ++tap) columns[threadIdx.x * TAPS * TAPS + tap] = own[tap]; \
        __syncthreads(); \
        for (int j = threadIdx.x; j < 2 * STRIP * FULL; j += THREADS) { \
            int Y = 2 * (int)blockIdx.y * STRIP + j / FULL, X = j % FULL; \
            if (Y >= FULL) break; \
            int at = ((t * FULL + Y) * FULL + X) * CHANNELS + channel; \
            float sum = collect(columns, Y, X); \
            RESULT; \
        } \
        __syncthreads(); \
    }

// G's pictures: tanh of the transposed convolution of the activations, which it computes from h.
__global__ void make_pictures(const float *h, const float *known, const float *kernel, int C, float slope,
        float *pictures) {
    TRANSPOSED(normalised(load(h + at), norm_of(known, c, C), slope), pictures[at] = tanhf(sum))
}

// D: bias, LeakyReLU and dropout. Its masks are bits, in the order of pictures.

// The bits of WIDE neighbouring elements of a mask (T, MASK_WORDS(each)), from element `at` of example t on.
__device__ unsigned mask_bits(const unsigned short *mask, int t, int each, int at) {
    return mask[t * MASK_WORDS(each) + at / 16] >> at % 16;
}

// h = dropout(LeakyReLU(h + bias)); kept elements are multiplied by `growth` = 1 / (1 - rate). Returns two bits per
// element: 0 if it was dropped, 1 if it was kept and not positive, 2 if it was kept and positive.
__device__ unsigned char activate(vector *h, vector bias, unsigned kept, float slope, float growth) {
    unsigned code = 0;
    EACH {
        float x = h->at[i] + bias.at[i];
        int keep = kept >> i & 1, positive = x > 0;
        h->at[i] = keep ? growth * (positive ? x : slope * x) : 0;
        code |= (unsigned)(keep + (keep & positive)) << 2 * i;
    }
    return (unsigned char)code;
}

// The gradient before `activate`, from the gradient of its result.
__device__ vector before_activate(vector from, unsigned code, float slope, float growth) {
    EACH {
        int what = code >> 2 * i & 3;
        from.at[i] = what == 0 ? 0 : from.at[i] * (what == 2 ? growth : slope * growth);
    }
    return from;
}

// D's first layer: pictures (T, ...) -> a (T, p, phase, C), and the codes that `activate` returns.
__global__ void see_pictures(const float *pictures, const float *kernel, const float *bias,
        const unsigned short *mask, int T, int C, float slope, float growth, lifted *a, unsigned char *codes) {
    int i = INDEX * WIDE, c = i % C, p = i / C % PLACES, t = i / C / PLACES;
    if (t >= T) return;
    vector h[4], b = load(bias + c);
    convolve(pictures + t * PICTURE, kernel, p, c, C, h);
    for (int phase = 0; phase < 4; ++phase) {
        int pixel = (p / SIDE * 2 + phase / 2) * HALF + p % SIDE * 2 + phase % 2;
        int at = (i / C * 4 + phase) * C + c;
        unsigned kept = mask_bits(mask, t, HALF * HALF * C, pixel * C + c);
        codes[at / WIDE] = activate(&h[phase], b, kept, slope, growth);
        store_lifted(a + at, h[phase]);
    }
}

// log(1 + exp(x)) without overflow
__device__ float softplus(float x) { return fmaxf(x, 0) + log1pf(expf(-fabsf(x))); }

__device__ float sigmoid(float x) {
    float e = expf(-fabsf(x));
    return x >= 0 ? 1 / (1 + e) : e / (1 + e);
}

// From logits (T), N of real pictures and M of fakes: found (4), the losses of G and D and the mean scores of real
// pictures and fakes; slopes (T), the derivatives of D's loss by each logit; ratios (M), the derivatives of G's loss
// divided by slopes; dbias, the sum of slopes. Means are over all_N and all_M pictures; these can be a part of them.
// Slopes are multiplied by `scale`, because float16 needs it. A fake's score counts as at least 2^-64 (2^-16 in
// float16): its slope, a factor of all of D's gradients, must not vanish, nor the ratio overflow. Runs in one block.
__device__ void losses(const float *logits, int N, int M, int all_N, int all_M, float scale, float *found,
        float *slopes, float *ratios, float *dbias) {
    float sums[6] = {0, 0, 0, 0, 0, 0};
    for (int t = LANE; t < N + M; t += LANES) {
        float x = __ldcg(logits + t), s = sigmoid(x);
        float other = sigmoid(-x);  // 1 - s without cancellation
        float score = fmaxf(s, LIFTED_BITS == 32 ? 0x1p-64f : 0x1p-16f);
        if (t < N) {
            sums[1] += softplus(-x);
            sums[3] += s;
        } else {
            sums[0] += softplus(-x);
            sums[2] += softplus(x);
            sums[4] += s;
            ratios[t - N] = -other / score;
        }
        sums[5] += slopes[t] = scale * (t < N ? -other / all_N : score / all_M);
    }
    for (int i = 0; i < 6; ++i) sums[i] = block_sum(vector_of(sums[i])).at[0];
    if (LANE == 0) {
        found[0] = sums[0] / all_M;
        found[1] = sums[1] / all_N + sums[2] / all_M;
        found[2] = sums[3] / all_N;
        found[3] = sums[4] / all_M;
        *dbias = sums[5];
    }
}

// D's last layers: h (T, p, C) -> logits[t], with a block per t. The last block also computes the losses.
__global__ void answer(const float *h, const float *bias, const unsigned short *mask, int C, float slope,
        float growth, const float *kernel, const float *dense_bias, float *logits, unsigned *arrived, int N, int M,
        int all_N, int all_M, float scale, float *found, float *slopes, float *ratios, float *dbias) {
    int t = blockIdx.x, each = PLACES * C;
    float sum = 0;
    for (int at = LANE * WIDE; at < each; at += LANES * WIDE) {
        vector x = load(h + t * each + at), w = load(kernel + at);
        activate(&x, load(bias + at % C), mask_bits(mask, t, each, at), slope, growth);
        EACH sum += x.at[i] * w.at[i];
    }
    sum = block_sum(vector_of(sum)).at[0];
    if (FIRST_THREAD) logits[t] = sum + *dense_bias;
    if (last_of(arrived, gridDim.x)) losses(logits, N, M, all_N, all_M, scale, found, slopes, ratios, dbias);
}

// Gradients from h (T, p, C): dh (may be h itself); the kernel of `answer` (p, C); the bias (C), from `sums` over t.
__global__ void answer_back(const float *h, const float *bias, const unsigned short *mask, int T, int C,
        float slope, float growth, const float *kernel, const float *slopes, float *shares, unsigned *arrived,
        float *dkernel, float *sums, float *dbias, lifted *dh) {
    int at = COLUMN, each = PLACES * C, end = END_ROW(T);
    vector dw = {0}, db = {0};
    if (at < each) {
        vector w = load(kernel + at), b = load(bias + at % C);
        for (int t = FIRST_ROW(T) + LANE; t < end; t += LANES) {
            vector a = load(h + t * each + at);
            unsigned code = activate(&a, b, mask_bits(mask, t, each, at), slope, growth);
            vector g = before_activate(w, code, slope, growth);
            EACH g.at[i] *= slopes[t];
            add(&dw, slopes[t], a);
            add(&db, 1, g);
            store_lifted(dh + t * each + at, g);
        }
    }
    if (!add_up(&dw, &db, each, shares, arrived, dkernel, sums) || !last_of(arrived + gridDim.x, gridDim.x)) return;
    for (int c = (LANE * blockDim.x + threadIdx.x) * WIDE; c < C; c += THREADS * WIDE) {
        vector sum = {0};
        for (int p = 0; p < PLACES; ++p) add(&sum, 1, shared_load(sums + p * C + c));
        store(dbias + c, sum);
    }
}

// The gradient of G's loss before tanh, from db, the gradient of D's loss after D's first layer.
__global__ void leave_D(const float *db, const unsigned char *codes, const float *kernel, int C, float slope,
        float growth, const float *ratios, const float *pictures, float *dpictures) {
    TRANSPOSED(before_activate(load(db + at), codes[at / WIDE], slope, growth),
               dpictures[at] = sum * ratios[t] * (1 - pictures[at] * pictures[at]))
}

// Gradients of the kernels next to the pictures. A block has QUADS times WIDE channels of a chunk of examples; a
// thread has some of their pixels and one row of taps.

#define TAP_ROW (LANE % TAPS)
#define ROW_LANE (LANE / TAPS)  // among the lanes that share a row of taps
#define ROW_LANES (LANES / TAPS)

// sums[column, channel] += the numbers x of pixel `row` = (p, phase) times the pixels that its row of taps sees.
__device__ void see_row(vector x, const float *picture, int row, vector sums[TAPS * CHANNELS]) {
    int y = row / 4 / SIDE * 2 + row % 4 / 2, x0 = 2 * (row / 4 % SIDE * 2 + row % 2) - BEFORE;
    int Y = 2 * y + TAP_ROW - BEFORE;
    if (Y < 0 || Y >= FULL) return;
    for (int k = 0; k < TAPS * CHANNELS; ++k) {
        int X = x0 + k / CHANNELS;
        if (X >= 0 && X < FULL) add(&sums[k], picture[(Y * FULL + X) * CHANNELS + k % CHANNELS], x);
    }
}

// Sums the threads' parts over all chunks: the rows of taps into dkernel (WINDOW, C), x and y into X and Y (C) and
// sums (2, C); a null pointer skips these. Shares (chunks, WINDOW + 2, C).
__device__ void add_up_windows(vector taps[TAPS * CHANNELS], vector x, vector y, int C, float *shares,
        unsigned *arrived, float *dkernel, float *X, float *Y, float *sums) {
    __shared__ vector shared[THREADS];
    int c = COLUMN, at = LANE * QUADS + threadIdx.x;
    float *own = shares + CHUNK * (WINDOW + 2) * C;
    block_sums(&x, &y, C, own + WINDOW * C, own + (WINDOW + 1) * C);
    for (int k = 0; k < TAPS * CHANNELS; ++k) {
        shared[at] = taps[k];
        __syncthreads();
        if (c < C && LANE < TAPS) {
            vector sum = shared[at];
            for (int lane = 1; lane < ROW_LANES; ++lane) add(&sum, 1, shared[at + lane * TAPS * QUADS]);
            store(own + (TAP_ROW * TAPS * CHANNELS + k) * C + c, sum);
        }
        __syncthreads();
    }
    if (!last_of(arrived + blockIdx.x, CHUNKS) || c >= C) return;
    for (int i = LANE; i < WINDOW + 2; i += LANES) {
        vector sum = {0};
        for (int chunk = 0; chunk < CHUNKS; ++chunk)
            add(&sum, 1, shared_load(shares + (chunk * (WINDOW + 2) + i) * C + c));
        float *into = i < WINDOW ? dkernel + i * C : i == WINDOW ? X : Y;
        if (into) store(into + c, sum);
        if (i >= WINDOW && sums) store(sums + (i - WINDOW) * C + c, sum);
    }
}

// D's first layer: gradients of kernel and bias, from db (T, p, phase, C), the gradient of the result of `activate`.
__global__ void see_pictures_back(const float *pictures, const float *db, const unsigned char *codes, int T, int C,
        float slope, float growth, float *shares, unsigned *arrived, float *dkernel, float *dbias) {
    int c = COLUMN;
    vector taps[TAPS * CHANNELS] = {0}, bias = {0};
    for (int t = FIRST_ROW(T); t < END_ROW(T) && c < C; ++t)
        for (int row = ROW_LANE; row < PLACES * 4 && ROW_LANE < ROW_LANES; row += ROW_LANES) {
            int at = (t * PLACES * 4 + row) * C + c;
            vector g = before_activate(load(db + at), codes[at / WIDE], slope, growth);
            if (TAP_ROW == 0) add(&bias, 1, g);
            see_row(g, pictures + t * PICTURE, row, taps);
        }
    add_up_windows(taps, bias, vector_of(0), C, shares, arrived, dkernel, dbias, 0, 0);
}

// G's last convolution: dkernel and the sums of `normalise_sums`, from dpictures (M, ...), before tanh, and h (M, ...).
__global__ void make_pictures_sums(const float *dpictures, const float *h, const float *known, const float *kernel,
        int M, int C, float slope, float *shares, unsigned *arrived, float *dkernel, float *dbeta, float *dgamma,
        float *sums) {
    int c = COLUMN, end = c < C ? END_ROW(M) : 0;
    vector sum = {0}, product = {0}, da[4];
    Norm n = norm_of(known, c < C ? c : 0, C);
    for (int t = FIRST_ROW(M); t < end; ++t)
        for (int p = LANE; p < PLACES; p += LANES) {
            asm volatile("" ::: "memory");  // else the kernel's weights fill the registers and few threads fit
            convolve(dpictures + t * PICTURE, kernel, p, c, C, da);
            for (int phase = 0; phase < 4; ++phase)
                add_norm(da[phase], load(h + ((t * PLACES + p) * 4 + phase) * C + c), n, slope, &sum, &product);
        }
    vector taps[TAPS * CHANNELS] = {0};
    for (int t = FIRST_ROW(M); t < end; ++t)
        for (int row = ROW_LANE; row < PLACES * 4 && ROW_LANE < ROW_LANES; row += ROW_LANES) {
            vector a = normalised(load(h + (t * PLACES * 4 + row) * C + c), n, slope);
            see_row(a, dpictures + t * PICTURE, row, taps);
        }
    add_up_windows(taps, sum, product, C, shares, arrived, dkernel, dbeta, dgamma, sums);
}

// The rest of the backward pass of G's last batch norm: dh, which may be h itself.
__global__ void make_pictures_back(const float *dpictures, const float *h, const float *known, const float *kernel,
        const float *sums, int rows, int M, int C, float slope, lifted *dh) {
    int i = INDEX * WIDE, c = i % C, p = i / C % PLACES, t = i / C / PLACES;
    if (t >= M) return;
    Norm n = norm_of(known, c, C);
    vector da[4], sum = load(sums + c), product = load(sums + C + c);
    convolve(dpictures + t * PICTURE, kernel, p, c, C, da);
    for (int phase = 0; phase < 4; ++phase) {
        int at = (i / C * 4 + phase) * C + c;
        store_lifted(dh + at, norm_back(da[phase], load(h + at), n, slope, sum, product, rows));
    }
}

// The update. g: scaled gradients; `unscale`, a power of two, times g is the true gradient.

// trouble[0]: index of the first gradient whose square is not finite; -1: a loss is not; `count` or more: all is well.
// See `step.check_finite`. The results of `losses` become this step's row of measured (steps, 4).
__global__ void check_finite(const float *g, int count, float unscale, const float *found, float *measured,
        int measured_rows, const long long *clock, int *trouble) {
    int at = INDEX * WIDE;
    if (at >= count) return;
    vector x = load(g + at);
    EACH {
        float gradient = x.at[i] * unscale;
        if (!isfinite(gradient * gradient)) atomicMin(trouble, at + i);
    }
    if (INDEX < 2 && !isfinite(found[INDEX])) atomicMin(trouble, -1);
    if (INDEX < 4) measured[4 * ((clock[0] - 1) % measured_rows) + INDEX] = found[INDEX];
}

// `optim.Adam` for all weights; the first `of_G` are G's. After trouble no weight moves; trouble[1]: the step it began.
__global__ void adam(float *w, const float *g, float *m, float *v, int count, int of_G, float unscale,
        const float *rate, float beta1, float beta2, float left1, float left2, float eps, const long long *clock,
        int *trouble) {
    int at = INDEX * WIDE;
    if (at >= count) return;
    if (trouble[0] < count) {
        if (at == 0 && !trouble[1]) trouble[1] = (int)clock[0];
        return;
    }
    vector scaled = load(g + at), mean = load(m + at), square = load(v + at), weight = load(w + at);
    EACH {
        float gradient = scaled.at[i] * unscale;
        mean.at[i] = beta1 * mean.at[i] + left1 * gradient;
        square.at[i] = beta2 * square.at[i] + left2 * gradient * gradient;
        weight.at[i] -= rate[at < of_G ? 0 : 1] * mean.at[i] / (sqrtf(square.at[i]) + eps);
    }
    store(m + at, mean);
    store(v + at, square);
    store(w + at, weight);
}

// The average of weights or running statistics, updated at every `every`th step; see `average.Average`.
__global__ void average(float *a, const float *w, int count, const long long *clock, int every, double decay) {
    int at = INDEX * WIDE;
    if (at >= count || clock[0] % every) return;
    double t = (double)(clock[0] / every);
    float step = (float)(1 - fmin(decay, (1 + t) / (10 + t)));
    vector x = load(a + at), now = load(w + at);
    EACH x.at[i] += step * (now.at[i] - x.at[i]);
    store(a + at, x);
}

#ifdef __cplusplus
}
#endif
