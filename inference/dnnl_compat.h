// What differs between oneDNN 2 (Debian 12) and 3 (Debian 13). Include <oneapi/dnnl/dnnl.hpp> first.
#pragma once

namespace freshet {

// dst = src · weights (+ bias, where its descriptor is not empty), under `attributes`.
inline dnnl::matmul::primitive_desc MatmulDescription(const dnnl::engine& engine, const dnnl::memory::desc& src,
                                                      const dnnl::memory::desc& weights, const dnnl::memory::desc* bias,
                                                      const dnnl::memory::desc& dst,
                                                      const dnnl::primitive_attr& attributes) {
#if DNNL_VERSION_MAJOR >= 3
  if (bias == nullptr) return {engine, src, weights, dst, attributes};
  return {engine, src, weights, *bias, dst, attributes};
#else
  if (bias == nullptr) return {dnnl::matmul::desc(src, weights, dst), attributes, engine};
  return {dnnl::matmul::desc(src, weights, *bias, dst), attributes, engine};
#endif
}

}  // namespace freshet
