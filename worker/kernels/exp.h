/*
 * exp.h - the constants of exp_f32, shared by its variants (inside worker/kernels/ only).
 *
 * ln 2 is split so that n * EXP_LN2_HIGH is exact for |n| <= 151. The coefficients minimise the
 * largest relative error of 1 + r + C2 r^2 + ... + C6 r^6 over |r| <= ln(2) / 2 (reweighted least
 * squares in f64, then rounded): 4e-9, a sixteenth of u. Taylor's own would be off by 1.2e-7 at the
 * ends.
 */
#ifndef FLOTILLA_WORKER_KERNELS_EXP_H
#define FLOTILLA_WORKER_KERNELS_EXP_H

#define EXP_LOWEST (-104.0f) /* its exp rounds to 0 */
#define EXP_HIGHEST 89.0f    /* its exp rounds to +inf */
#define EXP_LOG2E 0x1.715476p+0f
#define EXP_LN2_HIGH 0x1.62e4p-1f
#define EXP_LN2_LOW 0x1.7f7d1cp-20f
#define EXP_ROUNDER 0x1.8p+23f /* adding it leaves a whole number in the low bits */
#define EXP_C2 0x1.fffffcp-2f
#define EXP_C3 0x1.555492p-3f
#define EXP_C4 0x1.5558f2p-5f
#define EXP_C5 0x1.123a2p-7f
#define EXP_C6 0x1.6a23dp-10f

#endif
