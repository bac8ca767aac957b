/*
 * gelu.h - the constants of the GELUs, shared by their variants (inside worker/kernels/ only).
 *
 * erfc(z) = exp(-z (C0 + C1 z + ... + C7 z^7)) for 0 <= z <= 4, taken as 0 above (it is 1.5e-8
 * there). The coefficients minimise the largest absolute error (reweighted least squares in f64,
 * then rounded): 1.6e-8; with f32 arithmetic 9e-8.
 */
#ifndef FLOTILLA_WORKER_KERNELS_GELU_H
#define FLOTILLA_WORKER_KERNELS_GELU_H

#define GELU_SQRT_HALF 0x1.6a09e6p-1f
#define GELU_ERF_END 4.0f
#define GELU_C0 0x1.20dd88p+0f
#define GELU_C1 0x1.45f024p-1f
#define GELU_C2 0x1.a58f0ap-4f
#define GELU_C3 -0x1.40dd14p-6f
#define GELU_C4 0x1.1981dcp-11f
#define GELU_C5 0x1.0ea356p-10f
#define GELU_C6 -0x1.43cd80p-12f
#define GELU_C7 0x1.07bd46p-15f

/* gelu_tanh: -2 sqrt(2 / pi), and 0.044715 of that. */
#define GELU_TANH_1 -0x1.988454p+0f
#define GELU_TANH_3 -0x1.2444f2p-4f

#endif
