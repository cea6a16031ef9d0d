// The random numbers of JAX: keys are pairs of whole numbers of 32 bits, and a seed here is the
// same noise as in Python. Source: Salmon et al. (2011), as in jax.random with partitionable keys.

const TURNS = [[13, 15, 26, 6], [17, 29, 16, 24]];

/** One block of Threefry-2x32 with twenty rounds. */
function block([k0, k1], x0, x1) {
  const keys = [k0, k1, k0 ^ k1 ^ 0x1bd11bda];
  let a = (x0 + k0) | 0;
  let b = (x1 + k1) | 0;
  for (let i = 0; i < 5; i += 1) {
    for (const turn of TURNS[i % 2]) {
      a = (a + b) | 0;
      b = ((b << turn) | (b >>> (32 - turn))) ^ a;
    }
    a = (a + keys[(i + 1) % 3]) | 0;
    b = (b + keys[(i + 2) % 3] + i + 1) | 0;
  }
  return [a, b];
}

/** `jax.random.key(seed)`. */
export const keyOf = (seed) => [0, seed | 0];

/** `jax.random.fold_in(key, number)`. */
export const foldIn = (key, number) => block(key, 0, number | 0);

/** The key of that number of `jax.random.split(key, n)`, whatever `n` is. */
export const splitAt = (key, index) => block(key, 0, index);

/** Whole numbers of 23 bits, as shares of 2^23. */
function shares(key, size) {
  return Float64Array.from({ length: size }, (_, k) => {
    const [high, low] = block(key, 0, k);
    return ((high ^ low) >>> 9) / 2 ** 23;
  });
}

/** `jax.random.uniform(key, (size,), minval=low, maxval=high)` in float32. */
export function uniform(key, size, low, high) {
  const range = Math.fround(Math.fround(high) - Math.fround(low));
  return Float32Array.from(shares(key, size), (u) =>
    Math.max(Math.fround(low), Math.fround(Math.fround(u * range) + Math.fround(low))));
}

const NEAR = [2.81022636e-8, 3.43273939e-7, -3.5233877e-6, -4.39150654e-6, 2.1858087e-4,
  -1.25372503e-3, -4.17768164e-3, 0.246640727, 1.50140941];
const FAR = [-2.00214257e-4, 1.00950558e-4, 1.34934322e-3, -3.67342844e-3, 5.73950773e-3,
  -7.6224613e-3, 9.43887047e-3, 1.00167406, 2.83297682];

/** The inverse of the error function, by Giles's polynomials in float32 (2012), as in XLA. */
function inverseErf(x) {
  const w = -Math.log1p(-x * x);
  const [table, at] = w < 5 ? [NEAR, w - 2.5] : [FAR, Math.sqrt(w) - 3];
  return x * table.reduce((sum, c) => c + sum * at, 0);
}

/** `jax.random.normal(key, (size,))` in float32. */
export function normal(key, size) {
  const low = -1 + 2 ** -24;
  return Float32Array.from(uniform(key, size, low, 1), (u) => Math.SQRT2 * inverseErf(u));
}
