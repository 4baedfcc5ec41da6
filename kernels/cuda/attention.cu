/* Attention and its gradient: see attention.cuh. */
#include "attention.cuh"

FX_ATTENTION(f32, float, 64, 2)
FX_ATTENTION(f32, float, 128, 1)
FX_ATTENTION(f16, fx::float16, 64, 2)
FX_ATTENTION(f16, fx::float16, 128, 1)
FX_ATTENTION(bf16, fx::bfloat16, 64, 2)
FX_ATTENTION(bf16, fx::bfloat16, 128, 1)
FX_ATTENTION(f64, double, 64, 1)
FX_ATTENTION_KERNEL(attention_delta_f32, 1, attention_delta<float>)
FX_ATTENTION_KERNEL(attention_delta_f16, 1, attention_delta<fx::float16>)
FX_ATTENTION_KERNEL(attention_delta_bf16, 1, attention_delta<fx::bfloat16>)
FX_ATTENTION_KERNEL(attention_delta_f64, 1, attention_delta<double>)
