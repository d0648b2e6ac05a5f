//! Elements of stored weights: F32, BF16, F16, little-endian, and the conversions between them.

use burn::tensor::{Bytes, DType};
use half::{bf16, f16};

/// Whether weights of this type can be stored.
pub(crate) fn is_supported(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::BF16 | DType::F16)
}

/// Converts elements of `from` to elements of `to`.
///
/// Narrowing rounds to nearest, ties to even; what is too large for `F16` becomes infinite. Both
/// types must be [supported](is_supported) (others are taken for F32); `out` holds as many
/// elements as `bytes`.
pub(crate) fn cast(bytes: &[u8], from: DType, to: DType, out: &mut [u8]) {
    if from == to {
        return out.copy_from_slice(bytes);
    }
    match from {
        DType::BF16 => write(bytes.chunks_exact(2).map(read_bf16), to, out),
        DType::F16 => write(bytes.chunks_exact(2).map(read_f16), to, out),
        _ => write(bytes.chunks_exact(4).map(read_f32), to, out),
    }
}

/// [`cast`] into fresh memory that is aligned for `to`.
pub(crate) fn cast_to_bytes(bytes: &[u8], from: DType, to: DType) -> Bytes {
    let elements = bytes.len() / from.size();
    let mut out = match to.size() {
        2 => Bytes::from_elems(vec![0_u16; elements]),
        _ => Bytes::from_elems(vec![0_u32; elements]),
    };
    cast(bytes, from, to, &mut out);
    out
}

/// [`cast`] of a chunk, into `buffer` where the type changes.
pub(crate) fn cast_chunk<'a>(
    chunk: &'a [u8],
    from: DType,
    to: DType,
    buffer: &'a mut Vec<u8>,
) -> &'a [u8] {
    if from == to {
        return chunk;
    }
    buffer.resize(chunk.len() / from.size() * to.size(), 0);
    cast(chunk, from, to, buffer);
    buffer
}

/// Elements of `from` as f32; `out` holds as many as `bytes`.
pub(crate) fn widen(bytes: &[u8], from: DType, out: &mut [f32]) {
    fn fill(out: &mut [f32], values: impl Iterator<Item = f32>) {
        for (out, value) in out.iter_mut().zip(values) {
            *out = value;
        }
    }
    match from {
        DType::BF16 => fill(out, bytes.chunks_exact(2).map(read_bf16)),
        DType::F16 => fill(out, bytes.chunks_exact(2).map(read_f16)),
        _ => fill(out, bytes.chunks_exact(4).map(read_f32)),
    }
}

/// f32 as elements of `to`, rounded as [`cast`] does.
pub(crate) fn narrow(values: &[f32], to: DType, out: &mut [u8]) {
    write(values.iter().copied(), to, out);
}

/// The first finite number that a cast made infinite, and its index.
pub(crate) fn overflow(
    from_bytes: &[u8],
    from: DType,
    to_bytes: &[u8],
    to: DType,
) -> Option<(usize, f32)> {
    // Exponent bits, all set in an infinite number.
    let infinite = match to {
        DType::BF16 => 0x7f80,
        DType::F16 => 0x7c00,
        _ => return None,
    };
    let is_infinite = |bytes: &[u8]| u16::from_le_bytes([bytes[0], bytes[1]]) & 0x7fff == infinite;
    if from == to || !to_bytes.chunks_exact(2).any(is_infinite) {
        return None;
    }
    let was = |index: usize| match from {
        DType::BF16 => read_bf16(&from_bytes[2 * index..]),
        DType::F16 => read_f16(&from_bytes[2 * index..]),
        _ => read_f32(&from_bytes[4 * index..]),
    };
    let infinite = to_bytes
        .chunks_exact(2)
        .enumerate()
        .filter(|(_, bytes)| is_infinite(bytes));
    infinite
        .map(|(index, _)| (index, was(index)))
        .find(|(_, value)| value.is_finite())
}

fn write(values: impl Iterator<Item = f32>, to: DType, out: &mut [u8]) {
    match to {
        DType::BF16 => each(values, out, |x| bf16::from_f32(x).to_le_bytes()),
        DType::F16 => each(values, out, |x| f16::from_f32(x).to_le_bytes()),
        _ => each(values, out, f32::to_le_bytes),
    }
}

fn each<const N: usize>(
    values: impl Iterator<Item = f32>,
    out: &mut [u8],
    to_bytes: impl Fn(f32) -> [u8; N],
) {
    for (out, value) in out.chunks_exact_mut(N).zip(values) {
        out.copy_from_slice(&to_bytes(value));
    }
}

fn read_f32(bytes: &[u8]) -> f32 {
    f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn read_bf16(bytes: &[u8]) -> f32 {
    bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

fn read_f16(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cast_all(values: &[f32], to: DType) -> Vec<u8> {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        cast_to_bytes(&bytes, DType::F32, to).to_vec()
    }

    #[test]
    fn narrowing_to_bf16_rounds_to_nearest_even() {
        // 1 + 2^-8 lies halfway between 1 (0x3f80) and the next bf16 (0x3f81): the even one wins.
        // 1 + 3 x 2^-8 lies halfway between 0x3f81 and 0x3f82. A little more goes up.
        let halfway = 1.0 + 2.0_f32.powi(-8);
        let values = [
            halfway,
            1.0 + 3.0 * 2.0_f32.powi(-8),
            halfway + 2.0_f32.powi(-20),
            -0.0,
        ];
        let expected = [0x3f80_u16, 0x3f82, 0x3f81, 0x8000];
        let expected: Vec<u8> = expected.iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(cast_all(&values, DType::BF16), expected);
    }

    #[test]
    fn narrowing_to_f16_rounds_to_nearest_even_and_overflows() {
        // 2049 lies halfway between 2048 (0x6800) and 2050 (0x6801); 65504 is the largest f16,
        // 65520 the first number that rounds beyond it.
        let values = [2049.0, 2051.0, 65504.0, 65519.0, 65520.0];
        let expected = [0x6800_u16, 0x6802, 0x7bff, 0x7bff, 0x7c00];
        let expected: Vec<u8> = expected.iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(cast_all(&values, DType::F16), expected);
    }

    #[test]
    fn widening_is_exact() {
        for bits in 0..=u16::MAX {
            let bytes = bits.to_le_bytes();
            for (from, value) in [
                (DType::BF16, bf16::from_bits(bits).to_f32()),
                (DType::F16, f16::from_bits(bits).to_f32()),
            ] {
                let wide = cast_to_bytes(&bytes, from, DType::F32);
                let back = cast_to_bytes(&wide, DType::F32, from);
                assert_eq!(wide[..], value.to_le_bytes());
                assert!(value.is_nan() || back[..] == bytes, "{from:?} {bits:#x}");
            }
        }
    }
}
