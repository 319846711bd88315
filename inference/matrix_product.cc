#include "inference/matrix_product.h"

#include <omp.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cstdio>
#include <cstdlib>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <utility>
#include <vector>

#include "core/key_value_cache.h"
#include "inference/dnnl_compat.h"

namespace freshet {
namespace {

using dnnl::memory;

const dnnl::engine& Cpu() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

void UseOneOpenMpThread() {
  static thread_local const bool once = (omp_set_num_threads(1), true);
  (void)once;
}

memory::dims Dims(size_t rows, size_t columns) {
  return {static_cast<memory::dim>(rows), static_cast<memory::dim>(columns)};
}

memory::desc RowMajor(size_t rows, size_t columns, memory::data_type type = memory::data_type::f32) {
  return {Dims(rows, columns), type, memory::format_tag::ab};
}

// The product of one number of rows.
struct Bucket {
  dnnl::matmul primitive;
  memory::desc x, weights, bias, y, scratchpad;
};

// `weights`: the layout of W.
Bucket MakeBucket(const MatrixProductOptions& options, size_t rows, const memory::desc& weights) {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (options.accumulate) {
    dnnl::post_ops sum;
    sum.append_sum(1.0f);
    attributes.set_post_ops(sum);
  }
  Bucket bucket;
  bucket.x = RowMajor(rows, options.inner, options.int8 ? memory::data_type::u8 : memory::data_type::f32);
  bucket.bias = RowMajor(1, options.columns);
  bucket.y = RowMajor(rows, options.columns);
  const auto description = MatmulDescription(
      Cpu(), bucket.x, weights, options.accumulate || options.int8 ? &bucket.bias : nullptr, bucket.y, attributes);
  bucket.weights = description.weights_desc();
  bucket.scratchpad = description.scratchpad_desc();
  bucket.primitive = dnnl::matmul(description);
  return bucket;
}

// One layout serves all buckets: what oneDNN chooses for the most rows.
memory::desc WeightsLayout(const MatrixProductOptions& options) {
  if (!options.int8) return RowMajor(options.inner, options.columns);
  const memory::desc any(Dims(options.inner, options.columns), memory::data_type::s8, memory::format_tag::any);
  return MakeBucket(options, MatrixProduct::RoundedRows(options.max_rows), any).weights;
}

}  // namespace

bool HasInt8Products() {
  const auto isa = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  constexpr auto kNeeded = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_vnni);
  return (isa & kNeeded) == kNeeded;  // later instruction sets have the bits of those they include
}

struct MatrixProduct::Parts {
  MatrixProductOptions options;
  std::vector<Bucket> buckets;  // [i]: 2^i rows
};

struct MatrixProduct::Context::Parts {
  // Memory objects of one bucket, whose handles are set at each call.
  struct Arguments {
    memory x, weights, bias, y, scratchpad;
    std::array<dnnl_exec_arg_t, 5> list;
    int count = 0;
  };
  dnnl::stream stream{Cpu()};
  AlignedFloats scratchpad;
  std::vector<Arguments> arguments;  // as MatrixProduct::Parts::buckets
};

MatrixProduct::Context::Context() : parts_(std::make_unique<Parts>()) {}
MatrixProduct::Context::~Context() = default;
MatrixProduct::MatrixProduct(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) {}
MatrixProduct::~MatrixProduct() = default;

size_t MatrixProduct::RoundedRows(size_t rows) { return std::bit_ceil(rows); }

Result<std::unique_ptr<const MatrixProduct>> MatrixProduct::Make(const MatrixProductOptions& options) {
  UseOneOpenMpThread();
  try {
    auto parts = std::make_unique<Parts>();
    parts->options = options;
    const memory::desc weights = WeightsLayout(options);
    for (size_t rows = 1; rows <= RoundedRows(options.max_rows); rows *= 2) {
      parts->buckets.push_back(MakeBucket(options, rows, weights));
    }
    return std::unique_ptr<const MatrixProduct>(new MatrixProduct(std::move(parts)));
  } catch (const dnnl::error& error) {
    return Error(ErrorCode::kInternal, "oneDNN refuses a product of " + std::to_string(options.inner) + " x " +
                                           std::to_string(options.columns) + ": " + error.what());
  }
}

std::unique_ptr<MatrixProduct::Context> MatrixProduct::MakeContext() const {
  std::unique_ptr<Context> context(new Context());
  size_t scratch_bytes = 1;
  for (const Bucket& bucket : parts_->buckets) scratch_bytes = std::max(scratch_bytes, bucket.scratchpad.get_size());
  context->parts_->scratchpad = AllocateAligned(scratch_bytes / sizeof(float) + 1);
  auto& all = context->parts_->arguments;
  all.resize(parts_->buckets.size());
  for (size_t i = 0; i < all.size(); ++i) {
    const Bucket& bucket = parts_->buckets[i];
    auto& arguments = all[i];
    arguments.x = memory(bucket.x, Cpu(), nullptr);
    arguments.weights = memory(bucket.weights, Cpu(), nullptr);
    arguments.bias = memory(bucket.bias, Cpu(), nullptr);
    arguments.y = memory(bucket.y, Cpu(), nullptr);
    arguments.scratchpad = memory(bucket.scratchpad, Cpu(), context->parts_->scratchpad.get());
    arguments.list = {{{DNNL_ARG_SRC, arguments.x.get()},
                       {DNNL_ARG_WEIGHTS, arguments.weights.get()},
                       {DNNL_ARG_DST, arguments.y.get()},
                       {DNNL_ARG_SCRATCHPAD, arguments.scratchpad.get()},
                       {DNNL_ARG_BIAS, arguments.bias.get()}}};
    arguments.count = parts_->options.accumulate || parts_->options.int8 ? 5 : 4;
  }
  return context;
}

void MatrixProduct::Run(size_t rows, const float* x, const float* weights, const float* bias, float* y,
                        Context& context) const {
  assert(!parts_->options.int8);
  Execute(rows, x, weights, bias, y, context);
}

void MatrixProduct::RunInt8(size_t rows, const uint8_t* x, const PackedInt8& weights, const float* bias, float* y,
                            Context& context) const {
  assert(parts_->options.int8);
  Execute(rows, x, weights.memory_.get(), bias, y, context);
}

size_t MatrixProduct::PackedBytes() const { return parts_->buckets[0].weights.get_size(); }

Result<PackedInt8> MatrixProduct::PackInt8(const int8_t* weights) const {
  PackedInt8 packed;
  packed.memory_ = AllocateAligned(PackedBytes() / sizeof(float) + 1);
  const MatrixProductOptions& options = parts_->options;
  // oneDNN takes inputs as void*, and only reads them.
  try {
    memory plain(RowMajor(options.inner, options.columns, memory::data_type::s8), Cpu(), const_cast<int8_t*>(weights));
    memory blocked(parts_->buckets[0].weights, Cpu(), packed.memory_.get());
    dnnl::stream stream(Cpu());
    dnnl::reorder(plain, blocked).execute(stream, plain, blocked);
  } catch (const dnnl::error& error) {
    return Error(ErrorCode::kInternal, std::string("oneDNN refuses to lay out 8-bit weights: ") + error.what());
  }
  return packed;
}

void MatrixProduct::Execute(size_t rows, const void* x, const void* weights, const float* bias, float* y,
                            Context& context) const {
  const size_t x_row_bytes = parts_->options.inner * (parts_->options.int8 ? 1 : sizeof(float));
  assert(rows >= 1 && rows <= RoundedRows(parts_->options.max_rows));
  UseOneOpenMpThread();
  for (size_t done = 0; done < rows;) {
    const size_t rest = rows - done;
    // Computing up to a quarter in vain is cheaper than more calls.
    const size_t up = RoundedRows(rest);
    const size_t now = rest * 4 >= up * 3 ? up : std::bit_floor(rest);
    auto& arguments = context.parts_->arguments[static_cast<size_t>(std::countr_zero(now))];
    // oneDNN takes inputs as void*, and only reads them.
    arguments.x.set_data_handle(const_cast<std::byte*>(static_cast<const std::byte*>(x) + done * x_row_bytes));
    arguments.weights.set_data_handle(const_cast<void*>(weights));
    if (bias != nullptr) arguments.bias.set_data_handle(const_cast<float*>(bias));
    arguments.y.set_data_handle(y + done * parts_->options.columns);
    const dnnl_primitive_t primitive = parts_->buckets[static_cast<size_t>(std::countr_zero(now))].primitive.get();
    const dnnl_status_t status =
        dnnl_primitive_execute(primitive, context.parts_->stream.get(), arguments.count, arguments.list.data());
    if (status != dnnl_success) {  // cannot happen once the primitive exists; going on would publish garbage
      std::fprintf(stderr, "freshet: oneDNN failed to run a product: status %d\n", static_cast<int>(status));
      std::abort();
    }
    done += now;
  }
}

}  // namespace freshet
