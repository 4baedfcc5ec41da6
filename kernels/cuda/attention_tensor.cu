/* Attention and its gradient on tensor cores: see attention_tensor.cuh.  By name: dtype, D, rows or keys. */
#include "attention_tensor.cuh"

#define FX_HALF_ATTENTION(suffix, type)                                                                 \
    FX_TENSOR_ATTENTION(attention_##suffix##_64_128, tensor_attention<type, 64, 2, 64>)                 \
    FX_TENSOR_ATTENTION(attention_##suffix##_64_64, tensor_attention<type, 64, 1, 64>)                  \
    FX_TENSOR_ATTENTION(attention_##suffix##_128_128, tensor_attention<type, 128, 2, 64>)               \
    FX_TENSOR_ATTENTION(attention_##suffix##_128_64, tensor_attention<type, 128, 1, 64>)                \
    FX_TENSOR_ATTENTION(attention_queries_##suffix##_64, tensor_gradient<type, 64, 64, false>)          \
    FX_TENSOR_ATTENTION(attention_queries_##suffix##_128, tensor_gradient<type, 128, 64, false>)        \
    FX_TENSOR_ATTENTION(attention_keys_##suffix##_64, tensor_gradient<type, 64, 64, true>)              \
    FX_TENSOR_ATTENTION(attention_keys_##suffix##_128, tensor_gradient<type, 128, 32, true>)
FX_HALF_ATTENTION(f16, fx::float16)
FX_HALF_ATTENTION(bf16, fx::bfloat16)
FX_TENSOR_ATTENTION(attention_tf32_64_64, tensor_attention<float, 64, 1, 64>)
FX_TENSOR_ATTENTION(attention_tf32_128_64, tensor_attention<float, 128, 1, 32>)
FX_TENSOR_ATTENTION(attention_queries_tf32_64, tensor_gradient<float, 64, 32, false>)
FX_TENSOR_ATTENTION(attention_queries_tf32_128, tensor_gradient<float, 128, 16, false>)
FX_TENSOR_ATTENTION(attention_keys_tf32_64, tensor_gradient<float, 64, 32, true>)
FX_TENSOR_ATTENTION(attention_keys_tf32_128, tensor_gradient<float, 128, 16, true>)
