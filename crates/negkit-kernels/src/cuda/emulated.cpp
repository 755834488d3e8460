// Runs the kernels of `attention.cu` on the CPU (`emulated.hpp`) and compares them with attention in f64.
//
//   emulated [BATCH HEADS SIZE QUERIES KEYS CAUSAL]…
//
// Prints a line for every case and type; fails where a value differs by more than rounding explains.
#define NEGKIT_EMULATED
#include "emulated.hpp"
// The kernels come after what stands in for the GPU.
#include "attention.cu"

#include <map>
#include <memory>
#include <string>

struct Case {
    int batch, heads, size, queries, keys, causal;
};

using Kernel = void (*)(const void *, const void *, const void *, void *, int, int, int, int, float, int);

// As `cuda.rs` chooses.
static int width_for(int size) {
    for (const int width : {32, 48, 64, 80, 128, 160})
        if (size <= width)
            return width;
    return 128;
}

#define NAMES(WIDTH)                                                                                   \
    {"f16 " #WIDTH, attention_f16_##WIDTH}, {"bf16 " #WIDTH, attention_bf16_##WIDTH}
static const std::map<std::string, Kernel> KERNELS_BY_NAME = {NAMES(32), NAMES(48),  NAMES(64),
                                                              NAMES(80), NAMES(128), NAMES(160)};

// Reproducible values between -1 and 1 (xorshift64*).
struct Numbers {
    uint64_t state;
    float next() {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        return static_cast<float>((state * 0x2545f4914f6cdd1dull) >> 40) / (1 << 23) - 1.0f;
    }
};

// Memory that ends where the tensor does, at an address that 16 divides, so that a sanitizer sees what
// is read beyond it.
template <typename T> struct Tensor {
    size_t length;
    std::unique_ptr<void, decltype(&std::free)> memory;
    explicit Tensor(size_t length)
        : length(length), memory(std::aligned_alloc(16, length * sizeof(T)), std::free) {}
    T *data() const { return static_cast<T *>(memory.get()); }
};

template <typename T> static bool holds(const Case &c, const char *type, double tolerance) {
    const size_t stride = static_cast<size_t>(c.heads) * c.size;
    Numbers numbers{0x9e3779b97f4a7c15ull + static_cast<uint64_t>(c.size * 1000 + c.queries)};
    const auto random = [&](int rows, float reach) {
        Tensor<T> tensor(static_cast<size_t>(c.batch) * rows * stride);
        for (size_t i = 0; i < tensor.length; ++i)
            tensor.data()[i].bits = narrowed(T{}, reach * numbers.next());
        return tensor;
    };
    // Scores reach some tens, so that the largest moves from tile to tile.
    const Tensor<T> q = random(c.queries, 6), k = random(c.keys, 2), v = random(c.keys, 1);
    const Tensor<T> out = random(c.queries, 1e4f);
    const double scale = 1.0 / std::sqrt(static_cast<double>(c.size));

    const int width = width_for(c.size);
    const Kernel kernel = KERNELS_BY_NAME.at(std::string(type) + " " + std::to_string(width));
    const unsigned parts = static_cast<unsigned>((c.size + width - 1) / width);
    for (unsigned x = 0; x < static_cast<unsigned>((c.queries + QUERIES - 1) / QUERIES); ++x)
        for (unsigned y = 0; y < static_cast<unsigned>(c.batch * c.heads); ++y)
            for (unsigned z = 0; z < parts; ++z)
                run_block({x, y, z}, THREADS, [&] {
                    kernel(q.data(), k.data(), v.data(), out.data(), c.queries, c.keys, c.heads, c.size,
                           static_cast<float>(scale * 1.4426950408889634), c.causal);
                });

    const auto at = [&](const Tensor<T> &tensor, int rows, int element, int row, int column) {
        const size_t index = (static_cast<size_t>(element) * rows + row) * stride + column;
        return static_cast<double>(widened(T{}, tensor.data()[index].bits));
    };
    double worst = 0;
    for (int element = 0; element < c.batch; ++element)
        for (int head = 0; head < c.heads; ++head)
            for (int query = 0; query < c.queries; ++query) {
                const int first = head * c.size;
                const int seen = c.causal ? std::min(c.keys, query + 1) : c.keys;
                std::vector<double> shares(static_cast<size_t>(seen));
                double most = -INFINITY, total = 0;
                for (int key = 0; key < seen; ++key) {
                    double score = 0;
                    for (int i = 0; i < c.size; ++i)
                        score += at(q, c.queries, element, query, first + i) *
                                 at(k, c.keys, element, key, first + i);
                    shares[key] = score * scale;
                    most = std::max(most, shares[key]);
                }
                for (double &share : shares)
                    total += share = std::exp(share - most);
                for (int i = 0; i < c.size; ++i) {
                    double value = 0;
                    for (int key = 0; key < seen; ++key)
                        value += shares[key] / total * at(v, c.keys, element, key, first + i);
                    const double found = at(out, c.queries, element, query, first + i);
                    const double difference = std::fabs(value - found);
                    // Not a number is no small difference.
                    worst = difference <= worst ? worst : difference;
                }
            }
    const bool good = worst <= tolerance;
    std::printf("%s batch %d heads %d of %d, queries %d keys %d%s: largest difference %.1e, %.1e "
                "allowed%s\n",
                type, c.batch, c.heads, c.size, c.queries, c.keys, c.causal ? " causal" : "", worst,
                tolerance, good ? "" : ": TOO LARGE");
    return good;
}

int main(int count, char **words) {
    std::vector<Case> cases;
    for (int i = 1; i + 5 < count; i += 6)
        cases.push_back({std::atoi(words[i]), std::atoi(words[i + 1]), std::atoi(words[i + 2]),
                         std::atoi(words[i + 3]), std::atoi(words[i + 4]), std::atoi(words[i + 5])});
    if (cases.empty() || (count - 1) % 6 != 0) {
        std::fprintf(stderr, "usage: emulated [BATCH HEADS SIZE QUERIES KEYS CAUSAL]…\n");
        return 2;
    }
    bool good = true;
    for (const Case &each : cases) {
        // Values are below 1; the softmax's shares and the result are rounded once each, by half of
        // 2^-10 and of 2^-7.
        good &= holds<F16>(each, "f16", 1.5e-3);
        good &= holds<BF16>(each, "bf16", 1.2e-2);
    }
    return good ? 0 : 1;
}
