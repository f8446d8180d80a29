// What the training step of the DCGAN does between its matrix products. Plain C, so that a test can
// run every kernel on a processor.
//
// Shapes. A map of a quarter of the picture's side has SIDE x SIDE places p, and T examples lie
// one after the other for each place: (p, t, channel). A map of half the side is stored by phases,
// (p, t, phase, channel): pixel (y, x) belongs to place (y / 2, x / 2) and phase 2 (y % 2) + x % 2.
// Pictures are (t, y, x, channel), CHANNELS of them. SIDE and CHANNELS are set when this is compiled.
//
// Nothing is added up in an order that depends on which thread comes first, so a step is the same,
// bit for bit, whenever it is repeated on one card.

#ifdef __cplusplus
extern "C" {
#endif

#define HALF (2 * SIDE)
#define FULL (4 * SIDE)
#define TAPS 5     // side of every kernel
#define BEFORE 1   // zeros before a picture that a convolution of stride 2 halves
#define WINDOW (TAPS * TAPS * CHANNELS)
#define UNIT 1.1102230246251565e-16  // 2^-53: 53 random bits times this lie in [0, 1)

typedef unsigned long long word;

// Time.

// clock[0]: number of this step, from 1; clock[1]: Adam's t. rate: Adam's step sizes at t, G's and D's.
__global__ void tick(long long *clock, float *rate, double lr_G, double lr_D, double beta1, double beta2) {
    clock[0] += 1;
    clock[1] += 1;
    double t = (double)clock[1];
    double factor = sqrt(1 - pow(beta2, t)) / (1 - pow(beta1, t));
    rate[0] = (float)(lr_G * factor);
    rate[1] = (float)(lr_D * factor);
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

// z (count): standard normal numbers, from number `start` of a whole batch's on, four to a thread. See
// `rng.Stream.normal`.
__global__ void draw_noise(float *z, word start, int count, word key0, word key1, const long long *clock) {
    word block = start / 4 + blockIdx.x * blockDim.x + threadIdx.x;
    int at = (int)(4 * block - start);  // of its first number in z; below 0 where z begins within it
    if (at >= count) return;
    word words[4] = {block + 1, (word)(clock[0] - 1), 0, 0};
    philox(words, key0, key1);
    for (int pair = 0; pair < 2; ++pair) {
        double radius = sqrt(-2 * log(((words[2 * pair] >> 11) + 1) * UNIT));
        double angle = 6.283185307179586 * ((words[2 * pair + 1] >> 11) * UNIT);
        int i = at + 2 * pair;
        if (i >= 0 && i < count) z[i] = (float)(radius * cos(angle));
        if (i + 1 >= 0 && i + 1 < count) z[i + 1] = (float)(radius * sin(angle));
    }
}

// Where element i of pictures (t, y, x, C), the first of which is example `first` of T, lies in a map
// with `scale` x `scale` phases: (place, T, phase, C).
__device__ int in_map(unsigned i, unsigned C, unsigned scale, int T, int first) {
    unsigned side = SIDE * scale, c = i % C, x = i / C % side, y = i / C / side % side, t = i / C / side / side;
    unsigned place = y / scale * SIDE + x / scale, phase = y % scale * scale + x % scale;
    return ((place * T + first + t) * scale * scale + phase) * C + c;
}

// The part of a mask that belongs to examples from `first` on: `count` elements, 1 where one is kept.
// They are drawn in the order of pictures, as `rng.Stream.keep_part` does from element `start` on, sixteen
// to a thread.
__global__ void draw_mask(unsigned char *mask, word start, int count, word key0, word key1,
                          const long long *clock, int pass, int layer, int threshold, int C, int scale, int T,
                          int first) {
    word block = start / 16 + blockIdx.x * blockDim.x + threadIdx.x;
    int at = (int)(16 * block - start);  // of its first element; below 0 where the part begins within it
    if (at >= count) return;
    word words[4] = {block + 1, (word)(clock[0] - 1), (word)pass, (word)layer};
    philox(words, key0, key1);
    for (int half = 0; half < 2; ++half) {
        int from = at + 8 * half;
        if (from >= count) return;
        word eight = 0;  // of them, a byte each
        for (int i = 0; i < 8; ++i) {
            int bits = (int)(words[2 * half + i / 4] >> (16 * (i % 4)) & 0xFFFF);
            eight |= (word)(bits >= threshold) << (8 * i);
        }
        if (C % 8 == 0) {  // they lie side by side, and `start` is a multiple of 8
            if (from >= 0) *(word *)(mask + in_map(from, C, scale, T, first)) = eight;
        } else
            for (int i = from < 0 ? -from : 0; i < 8 && from + i < count; ++i)
                mask[in_map(from + i, C, scale, T, first)] = (unsigned char)(eight >> (8 * i));
    }
}

// Real pictures.

// `count` pictures of a batch from number `first` on, bytes to [-1, 1]: (byte - 127.5) / 127.5.
__global__ void gather(float *pictures, const unsigned char *images, const int *order, const long long *clock,
                       int first, int count, int batch, int steps_per_epoch) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, size = FULL * FULL * CHANNELS;
    if (i >= count * size) return;
    int place = (int)((clock[0] - 1) % steps_per_epoch);
    long long image = order[place * batch + first + i / size];
    pictures[i] = ((float)images[image * size + i % size] - 127.5f) / 127.5f;
}

// Sums over the rows of a matrix (rows, C): shares of `chunk` rows first, then the shares' sum.
// A block has 32 channels side by side and several rows below each other.

#define COLUMN ((int)(blockIdx.x * blockDim.x + threadIdx.x))
#define CHUNK ((int)blockIdx.y)
#define LANES ((int)blockDim.y)

// The sum of `value` over the threads of a block that have one channel: a power of two of them.
__device__ float block_sum(float value) {
    __shared__ float shared[1024];
    int lane = threadIdx.y, width = blockDim.x, at = lane * width + threadIdx.x;
    shared[at] = value;
    for (int lanes = LANES / 2; lanes > 0; lanes /= 2) {
        __syncthreads();
        if (lane < lanes) shared[at] += shared[at + lanes * width];
    }
    __syncthreads();
    float sum = shared[threadIdx.x];
    __syncthreads();
    return sum;
}

// shares[CHUNK, kind] = the block's sum of `value`; shares (chunks, kinds, C).
__device__ void store_block_sum(float value, int kind, int kinds, int C, float *shares) {
    float sum = block_sum(value);
    if (COLUMN < C && threadIdx.y == 0) shares[(CHUNK * kinds + kind) * C + COLUMN] = sum;
}

// shares (chunks, 2, C): the sums of x - x0 and of (x - x0)^2, with x0 (C) the first row, say. Distances
// from a number of about the mean cancel little when they are subtracted (Chan, Golub & LeVeque 1983).
__global__ void moments(const float *x, const float *x0, int rows, int C, int chunk, float *shares) {
    int c = COLUMN, end = min((CHUNK + 1) * chunk, rows);
    float sum = 0, squares = 0, origin = c < C ? x0[c] : 0;
    if (c < C)
        for (int row = CHUNK * chunk + threadIdx.y; row < end; row += LANES) {
            float distance = x[row * C + c] - origin;
            sum += distance;
            squares += distance * distance;
        }
    store_block_sum(sum, 0, 2, C, shares);
    store_block_sum(squares, 1, 2, C, shares);
}

// The sum over the chunks of one kind of shares (chunks, kinds, C), by one block for each 32 channels.
__device__ float shares_block_sum(const float *shares, int chunks, int kind, int kinds, int C) {
    float sum = 0;
    if (COLUMN < C)
        for (int i = threadIdx.y; i < chunks; i += LANES) sum += shares[(i * kinds + kind) * C + COLUMN];
    return block_sum(sum);
}

// mean, inverse_std (C) from those shares; the running values take a step towards the batch's.
__global__ void batch_statistics(const float *shares, int chunks, const float *x0, int rows, int C, float eps,
                       float momentum, float *mean, float *inverse_std, float *running_mean,
                       float *running_variance) {
    int c = COLUMN;
    float sum = shares_block_sum(shares, chunks, 0, 2, C);
    float squares = shares_block_sum(shares, chunks, 1, 2, C);
    if (c < C && threadIdx.y == 0) {
        float shift = sum / rows, variance = fmaxf(squares / rows - shift * shift, 0);
        mean[c] = x0[c] + shift;
        inverse_std[c] = 1 / sqrtf(variance + eps);
        running_mean[c] = momentum * running_mean[c] + (1 - momentum) * mean[c];
        running_variance[c] = momentum * running_variance[c] + (1 - momentum) * variance;
    }
}

// sums (chunks, C): of the T rows of each chunk of x, row t times weights[t].
__global__ void weighted_sums(const float *x, const float *weights, int T, int C, float *sums) {
    int c = COLUMN;
    float sum = 0;
    if (c < C)
        for (int t = threadIdx.y; t < T; t += LANES) sum += weights[t] * x[(CHUNK * T + t) * C + c];
    store_block_sum(sum, 0, 1, C, sums);
}

// out0 and, of two kinds, out1 (C): the sums of shares (chunks, kinds, C).
__global__ void total(const float *shares, int chunks, int C, int kinds, float *out0, float *out1) {
    for (int kind = 0; kind < kinds; ++kind) {
        float sum = shares_block_sum(shares, chunks, kind, kinds, C);
        if (COLUMN < C && threadIdx.y == 0) (kind ? out1 : out0)[COLUMN] = sum;
    }
}

// Batch normalisation and LeakyReLU of h (rows, C). The activations and their gradient lie as
// (C / width, rows, width): the dense layer's columns become places, and for the maps width = C.

// An element to a thread: its loads are not held up by the stores of others, which might be to the
// same place for all the compiler knows.
#define CHANNEL ((int)(blockIdx.y * blockDim.x + threadIdx.x))
#define ROW ((int)(blockIdx.x * blockDim.y + threadIdx.y))

__device__ int outward(unsigned row, unsigned c, unsigned rows, unsigned width) {
    return (c / width * rows + row) * width + c % width;
}

// a = LeakyReLU(gamma (h - mean) inverse_std + beta)
__global__ void normalise(const float *h, const float *mean, const float *inverse_std, const float *gamma,
                          const float *beta, int rows, int C, int width, float slope, float *a) {
    int row = ROW, c = CHANNEL;
    if (row >= rows || c >= C) return;
    float y = (h[row * C + c] - mean[c]) * inverse_std[c] * gamma[c] + beta[c];
    a[outward(row, c, rows, width)] = y > 0 ? y : slope * y;
}

// The gradient of the normalised and scaled numbers, from that of the activations.
__device__ float before_relu(float da, float xhat, float gamma, float beta, float slope) {
    return xhat * gamma + beta > 0 ? da : slope * da;
}

// shares (chunks, 2, C): the sums of g, which are beta's gradient, and of g xhat, gamma's.
__global__ void normalise_sums(const float *da, const float *h, const float *mean, const float *inverse_std,
                               const float *gamma, const float *beta, int rows, int C, int width, int chunk,
                               float slope, float *shares) {
    int c = COLUMN, end = min((CHUNK + 1) * chunk, rows);
    float sum = 0, product = 0;
    if (c < C)
        for (int row = CHUNK * chunk + threadIdx.y; row < end; row += LANES) {
            float xhat = (h[row * C + c] - mean[c]) * inverse_std[c];
            float g = before_relu(da[outward(row, c, rows, width)], xhat, gamma[c], beta[c], slope);
            sum += g;
            product += g * xhat;
        }
    store_block_sum(sum, 0, 2, C, shares);
    store_block_sum(product, 1, 2, C, shares);
}

// dh = gamma inverse_std (g - (dbeta + xhat dgamma) / M), of M rows in the whole batch; dh may be h itself.
__global__ void normalise_back(const float *da, const float *h, const float *mean, const float *inverse_std,
                               const float *gamma, const float *beta, const float *dgamma,
                               const float *dbeta, int M, int rows, int C, int width, float slope,
                               float *dh) {
    int row = ROW, c = CHANNEL;
    if (row >= rows || c >= C) return;
    float xhat = (h[row * C + c] - mean[c]) * inverse_std[c];
    float g = before_relu(da[outward(row, c, rows, width)], xhat, gamma[c], beta[c], slope);
    float others = (dbeta[c] + xhat * dgamma[c]) / M;
    dh[row * C + c] = gamma[c] * inverse_std[c] * (g - others);
}

// D's bias, LeakyReLU and dropout; mask (rows, C), 1 = keep.

// a = dropout(LeakyReLU(a + bias)), in place; what is kept grows by `growth` = 1 / (1 - rate).
__global__ void activate(float *a, const float *bias, const unsigned char *mask, int rows, int C, float slope,
                         float growth) {
    int row = ROW, c = CHANNEL;
    if (row >= rows || c >= C) return;
    float h = a[row * C + c] + bias[c];
    h = h > 0 ? h : slope * h;
    a[row * C + c] = mask[row * C + c] ? growth * h : 0;
}

// g = the gradient of what `activate` was given, from that of its result: `from_a` (rows, C), or, if
// one and the same for `same` rows, (rows / same, C). On the way the bias's gradient: shares
// (chunks, C), sums of the rows of g, row (.., t, phase) times weights[t]. g may be from_a itself.
__global__ void activate_back(float *g, const float *from_a, int same, const float *a,
                              const unsigned char *mask, const float *weights, int rows, int C, int chunk,
                              int T, int phases, float slope, float growth, float *shares) {
    int c = COLUMN, end = min((CHUNK + 1) * chunk, rows);
    float sum = 0;
    if (c < C)
        for (int row = CHUNK * chunk + threadIdx.y; row < end; row += LANES) {
            float from = from_a[(int)((unsigned)row / same) * C + c];
            float factor = a[row * C + c] > 0 ? growth : slope * growth;
            float result = mask[row * C + c] ? from * factor : 0;
            sum += weights[(unsigned)row / phases % T] * result;
            g[row * C + c] = result;
        }
    store_block_sum(sum, 0, 1, C, shares);
}

// x (rows, C), row (.., t, phase) times weights[t].
__global__ void scale_rows(float *x, const float *weights, int rows, int C, int T, int phases) {
    int row = ROW, c = CHANNEL;
    if (row < rows && c < C) x[row * C + c] *= weights[(unsigned)row / phases % T];
}

// D's answer and the losses.

// logits[t] = bias + sum over (p, c) of a[p, t, c] kernel[p, c]; a block for each t.
__global__ void dense_logits(const float *a, const float *kernel, const float *bias, int T, int C, float *logits) {
    float sum = 0;
    int t = blockIdx.x;
    for (int i = threadIdx.y; i < SIDE * SIDE * C; i += LANES)
        sum += a[(i / C * T + t) * C + i % C] * kernel[i];
    sum = block_sum(sum);
    if (threadIdx.y == 0) logits[t] = sum + *bias;
}

// log(1 + exp(x)) without overflow
__device__ float softplus(float x) { return fmaxf(x, 0) + log1pf(expf(-fabsf(x))); }

__device__ float sigmoid(float x) {
    float e = expf(-fabsf(x));
    return x >= 0 ? 1 / (1 + e) : e / (1 + e);
}

// From logits (T), N of real pictures and M of fakes: found (4), the losses of G and D and the mean scores
// of real pictures and fakes; slopes_D (T) and slopes_G (M), the losses' derivatives by each logit; dbias,
// the sum of slopes_D. The means are over all_N and all_M pictures, of which these may be a part. One block.
__global__ void losses(const float *logits, int N, int M, int all_N, int all_M, float *found, float *slopes_D,
                      float *slopes_G, float *dbias) {
    float sums[6] = {0, 0, 0, 0, 0, 0};
    for (int t = threadIdx.y; t < N + M; t += LANES) {
        float x = logits[t], s = sigmoid(x);
        float other = sigmoid(-x);  // 1 - s without cancellation
        if (t < N) {
            sums[1] += softplus(-x);
            sums[3] += s;
            slopes_D[t] = -other / all_N;
        } else {
            sums[0] += softplus(-x);
            sums[2] += softplus(x);
            sums[4] += s;
            slopes_D[t] = s / all_M;
            slopes_G[t - N] = -other / all_M;
        }
        sums[5] += slopes_D[t];
    }
    for (int i = 0; i < 6; ++i) sums[i] = block_sum(sums[i]);
    if (threadIdx.y == 0) {
        found[0] = sums[0] / all_M;
        found[1] = sums[1] / all_N + sums[2] / all_M;
        found[2] = sums[3] / all_N;
        found[3] = sums[4] / all_M;
        *dbias = sums[5];
    }
}

// Between a picture (T, FULL, FULL, CHANNELS) and the windows that a convolution of stride 2 sees:
// columns (place, t, phase, WINDOW), a row for each pixel of the smaller map.

__global__ void im2col(const float *pictures, int T, float *columns) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, row = i / WINDOW, tap = i % WINDOW / CHANNELS;
    if (row >= SIDE * SIDE * T * 4) return;
    int phase = row % 4, t = row / 4 % T, p = row / 4 / T;
    int y = 2 * (p / SIDE * 2 + phase / 2) + tap / TAPS - BEFORE;
    int x = 2 * (p % SIDE * 2 + phase % 2) + tap % TAPS - BEFORE;
    int inside = y >= 0 && y < FULL && x >= 0 && x < FULL;
    columns[i] = inside ? pictures[((t * FULL + y) * FULL + x) * CHANNELS + i % CHANNELS] : 0;
}

// The adjoint for element i of the pictures: the sum of all places in windows where it was seen.
__device__ float col2im(const float *columns, int T, int i) {
    int channel = i % CHANNELS, pixel = i / CHANNELS;
    int X = pixel % FULL, Y = pixel / FULL % FULL, t = pixel / FULL / FULL;
    float sum = 0;
    for (int y = max(Y + BEFORE - TAPS + 2, 0) / 2; y <= min((Y + BEFORE) / 2, HALF - 1); ++y)
        for (int x = max(X + BEFORE - TAPS + 2, 0) / 2; x <= min((X + BEFORE) / 2, HALF - 1); ++x) {
            int row = ((y / 2 * SIDE + x / 2) * T + t) * 4 + y % 2 * 2 + x % 2;
            int tap = (Y + BEFORE - 2 * y) * TAPS + X + BEFORE - 2 * x;
            sum += columns[row * WINDOW + tap * CHANNELS + channel];
        }
    return sum;
}

// G's pictures: tanh of the transposed convolution's result.
__global__ void col2im_tanh(const float *columns, int T, float *pictures) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < T * FULL * FULL * CHANNELS) pictures[i] = tanhf(col2im(columns, T, i));
}

// The gradient before tanh, from the windows' gradient of one logit each and G's loss by the logits.
__global__ void col2im_tanh_backward(const float *columns, int T, const float *slopes_G, const float *pictures, float *g) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= T * FULL * FULL * CHANNELS) return;
    float y = pictures[i];
    g[i] = col2im(columns, T, i) * slopes_G[i / (FULL * FULL * CHANNELS)] * (1 - y * y);
}

// trouble[0]: where the first gradient is whose square is no finite number, -1 where it is a loss; it
// stays at `count` or above while all is well. See `step.check_finite`. What `losses` found becomes this step's
// row of measured (steps, 4).
__global__ void check_finite(const float *g, int count, const float *found, float *measured, int measured_rows,
                      const long long *clock, int *trouble) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    if (!isfinite(g[i] * g[i])) atomicMin(trouble, i);
    if (i < 2 && !isfinite(found[i])) atomicMin(trouble, -1);
    if (i < 4) measured[4 * ((clock[0] - 1) % measured_rows) + i] = found[i];
}

// Adam for all weights of both networks, G's `of_G` before D's; see `optim.Adam`. From the first trouble
// on no weight moves, and trouble[1] is the number of the step that had it.
__global__ void adam(float *w, const float *g, float *m, float *v, int count, int of_G, const float *rate,
                     float beta1, float beta2, float left1, float left2, float eps, const long long *clock,
                     int *trouble) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    if (trouble[0] < count) {
        if (i == 0 && !trouble[1]) trouble[1] = (int)clock[0];
        return;
    }
    float gradient = g[i], mean = m[i], square = v[i], weight = w[i];  // all read before any is written
    mean = beta1 * mean + left1 * gradient;
    square = beta2 * square + left2 * gradient * gradient;
    m[i] = mean;
    v[i] = square;
    w[i] = weight - rate[i < of_G ? 0 : 1] * mean / (sqrtf(square) + eps);
}

// The average of weights or running values, every so many steps; see `average.Average`.
__global__ void average(float *a, const float *w, int count, const long long *clock, int every,
                        double decay) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count || clock[0] % every) return;
    double t = (double)(clock[0] / every);
    a[i] += (float)(1 - fmin(decay, (1 + t) / (10 + t))) * (w[i] - a[i]);
}

#ifdef __cplusplus
}
#endif
