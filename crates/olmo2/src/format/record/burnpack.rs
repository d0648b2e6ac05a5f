//! The header of a burnpack file (`.bpk`): writer, and reader that does not trust the file.
//!
//! burn-store 0.21 owns the format (its `burnpack/mod.rs` draws it): magic, version, the length of
//! the metadata, the metadata as CBOR, then each tensor at the next multiple of 256. Its writer
//! holds every tensor whole, hides the system's error and can neither hash nor stop on the way; its
//! reader hides the offsets and panics on some damaged ones, within 255 bytes of the end of the
//! file. Hence this code; tests compare its bytes with burn-store's writer and read them with
//! burn-store's reader.

use burn::tensor::DType;

/// `BURN`, read as a little-endian number.
const MAGIC: u32 = 0x4255_524E;
const VERSION: u16 = 1;
/// Magic, version, length of the metadata.
const FIXED: usize = 4 + 2 + 4;
/// Each tensor starts at a multiple of this, and so does the first.
const ALIGNMENT: u64 = 256;
/// The largest part of a record, a layer with biases, has metadata of 2 KB.
const MAX_METADATA: u32 = 1 << 20;
/// More dimensions than any tensor here has.
const MAX_DIMENSIONS: u64 = 8;

/// A tensor as the metadata describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) name: String,
    /// `F32`, `BF16`, `F16`, or `I8` and `U8` for the arrays of quantized blocks.
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    /// First byte and the one after the last, from the start of the data.
    pub(crate) offsets: (u64, u64),
}

/// The next offset at which a tensor may start.
pub(crate) fn align(offset: u64) -> u64 {
    offset.next_multiple_of(ALIGNMENT)
}

/// Everything before the data, padded to where the first tensor starts.
///
/// `tensors` have their offsets, each [aligned](align) and after the one before.
pub(crate) fn encode(tensors: &[Descriptor]) -> Vec<u8> {
    let mut sorted: Vec<&Descriptor> = tensors.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let mut cbor = Vec::new();
    head(&mut cbor, MAP, 1);
    text(&mut cbor, "tensors");
    head(&mut cbor, MAP, sorted.len() as u64);
    for tensor in sorted {
        text(&mut cbor, &tensor.name);
        head(&mut cbor, MAP, 3);
        text(&mut cbor, "dtype");
        text(&mut cbor, dtype_name(tensor.dtype));
        text(&mut cbor, "shape");
        head(&mut cbor, ARRAY, tensor.shape.len() as u64);
        for &dim in &tensor.shape {
            head(&mut cbor, UINT, dim as u64);
        }
        text(&mut cbor, "data_offsets");
        head(&mut cbor, ARRAY, 2);
        head(&mut cbor, UINT, tensor.offsets.0);
        head(&mut cbor, UINT, tensor.offsets.1);
    }
    let mut out = Vec::with_capacity(FIXED + cbor.len() + ALIGNMENT as usize);
    out.extend(MAGIC.to_le_bytes());
    out.extend(VERSION.to_le_bytes());
    out.extend((cbor.len() as u32).to_le_bytes());
    out.extend(cbor);
    out.resize(align(out.len() as u64) as usize, 0);
    out
}

/// Reads the metadata of a file: the tensors, sorted by name, and where the data starts.
///
/// # Errors
/// The fault of the file, as a sentence.
pub(crate) fn decode(file: &[u8]) -> Result<(Vec<Descriptor>, u64), String> {
    let Some((fixed, rest)) = file.split_first_chunk::<FIXED>() else {
        return Err(format!(
            "expected a header of {FIXED} bytes, found {}",
            file.len()
        ));
    };
    let [m0, m1, m2, m3, v0, v1, l0, l1, l2, l3] = *fixed;
    let magic = u32::from_le_bytes([m0, m1, m2, m3]);
    if magic != MAGIC {
        return Err(format!("expected the mark {MAGIC:#x}, found {magic:#x}"));
    }
    let version = u16::from_le_bytes([v0, v1]);
    if version != VERSION {
        return Err(format!(
            "expected burnpack version {VERSION}, found {version}"
        ));
    }
    let len = u32::from_le_bytes([l0, l1, l2, l3]);
    if len > MAX_METADATA || len as usize > rest.len() {
        let max = rest.len().min(MAX_METADATA as usize);
        return Err(format!(
            "expected metadata of at most {max} bytes, found a length of {len}"
        ));
    }
    let metadata = &rest[..len as usize];
    let mut cbor = Cbor {
        rest: metadata,
        len: metadata.len(),
    };
    let tensors = cbor.tensors()?;
    Ok((tensors, align(FIXED as u64 + u64::from(len))))
}

fn dtype_name(dtype: DType) -> &'static str {
    match dtype {
        DType::BF16 => "BF16",
        DType::F16 => "F16",
        DType::I8 => "I8",
        DType::U8 => "U8",
        _ => "F32",
    }
}

// Major types of CBOR (RFC 8949, 3.1).
const UINT: u8 = 0;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;

/// Writes the head of a data item in its shortest form: major type and number.
fn head(out: &mut Vec<u8>, major: u8, number: u64) {
    let major = major << 5;
    match number {
        0..=23 => out.push(major | number as u8),
        24..=0xff => out.extend([major | 24, number as u8]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend((number as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major | 26);
            out.extend((number as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend(number.to_be_bytes());
        }
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    head(out, TEXT, text.len() as u64);
    out.extend(text.as_bytes());
}

/// A reader for the CBOR of burnpack's metadata. It allocates for what it has read, never for a
/// length that a head announces.
struct Cbor<'a> {
    rest: &'a [u8],
    len: usize,
}

impl<'a> Cbor<'a> {
    fn tensors(&mut self) -> Result<Vec<Descriptor>, String> {
        let mut tensors = Vec::new();
        for _ in 0..self.head(MAP)? {
            match self.text()? {
                "tensors" => {
                    for _ in 0..self.head(MAP)? {
                        tensors.push(self.descriptor()?);
                    }
                }
                // Free text of the writer.
                "metadata" => {
                    for _ in 0..self.head(MAP)? {
                        self.text()?;
                        self.text()?;
                    }
                }
                other => return Err(self.unexpected("`tensors` or `metadata`", other)),
            }
        }
        match self.rest {
            [] => Ok(tensors),
            rest => Err(format!("{} bytes follow the metadata's end", rest.len())),
        }
    }

    fn descriptor(&mut self) -> Result<Descriptor, String> {
        let name = self.text()?.to_owned();
        let (mut dtype, mut shape, mut offsets) = (None, None, None);
        for _ in 0..self.head(MAP)? {
            match self.text()? {
                "dtype" => dtype = Some(self.dtype(&name)?),
                "shape" => shape = Some(self.shape()?),
                "data_offsets" => match self.head(ARRAY)? {
                    2 => offsets = Some((self.head(UINT)?, self.head(UINT)?)),
                    count => return Err(self.unexpected("two offsets", &count.to_string())),
                },
                "param_id" => {
                    self.head(UINT)?;
                }
                other => return Err(self.unexpected("a field of a tensor", other)),
            }
        }
        match (dtype, shape, offsets) {
            (Some(dtype), Some(shape), Some(offsets)) => Ok(Descriptor {
                name,
                dtype,
                shape,
                offsets,
            }),
            _ => Err(format!("tensor `{name}` lacks its dtype, shape or offsets")),
        }
    }

    fn dtype(&mut self, tensor: &str) -> Result<DType, String> {
        match self.text()? {
            "F32" => Ok(DType::F32),
            "BF16" => Ok(DType::BF16),
            "F16" => Ok(DType::F16),
            "I8" => Ok(DType::I8),
            "U8" => Ok(DType::U8),
            other => Err(format!(
                "dtype of tensor `{tensor}`: expected F32, BF16, F16, I8 or U8, found {other}"
            )),
        }
    }

    fn shape(&mut self) -> Result<Vec<usize>, String> {
        let count = self.head(ARRAY)?;
        if count > MAX_DIMENSIONS {
            return Err(self.unexpected("few dimensions", &count.to_string()));
        }
        let dim = |_| Ok(usize::try_from(self.head(UINT)?).unwrap_or(usize::MAX));
        (0..count).map(dim).collect()
    }

    fn text(&mut self) -> Result<&'a str, String> {
        let len = self.head(TEXT)?;
        let split = usize::try_from(len).ok();
        let Some((text, rest)) = split.and_then(|len| self.rest.split_at_checked(len)) else {
            return Err(self.unexpected("text within the metadata", &format!("{len} bytes")));
        };
        let text =
            str::from_utf8(text).map_err(|error| self.unexpected("UTF-8", &error.to_string()))?;
        self.rest = rest;
        Ok(text)
    }

    /// The number in the head of an item of this major type.
    fn head(&mut self, major: u8) -> Result<u64, String> {
        let Some((&first, rest)) = self.rest.split_first() else {
            return Err("the metadata ends too early".into());
        };
        let extra = match first & 31 {
            0..=23 => 0,
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            _ => return Err(self.unexpected("a number", &format!("{first:#04x}"))),
        };
        if first >> 5 != major {
            let expected = format!("an item of type {major}");
            return Err(self.unexpected(&expected, &format!("{first:#04x}")));
        }
        let Some((number, rest)) = rest.split_at_checked(extra) else {
            return Err("the metadata ends too early".into());
        };
        self.rest = rest;
        Ok(match number {
            [] => u64::from(first & 31),
            bytes => bytes
                .iter()
                .fold(0, |number, &byte| number << 8 | u64::from(byte)),
        })
    }

    fn unexpected(&self, expected: &str, found: &str) -> String {
        let at = self.len - self.rest.len();
        format!("byte {at} of its metadata: expected {expected}, found `{found}`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(name: &str, shape: &[usize], offsets: (u64, u64)) -> Descriptor {
        Descriptor {
            name: name.into(),
            dtype: DType::BF16,
            shape: shape.to_vec(),
            offsets,
        }
    }

    #[test]
    fn numbers_are_written_as_in_rfc_8949() {
        // Appendix A of the RFC.
        for (number, bytes) in [
            (0, &[0x00][..]),
            (23, &[0x17]),
            (24, &[0x18, 0x18]),
            (100, &[0x18, 0x64]),
            (1000, &[0x19, 0x03, 0xe8]),
            (1_000_000, &[0x1a, 0x00, 0x0f, 0x42, 0x40]),
            (
                1_000_000_000_000,
                &[0x1b, 0x00, 0x00, 0x00, 0xe8, 0xd4, 0xa5, 0x10, 0x00],
            ),
            (u64::MAX, &[0x1b, 255, 255, 255, 255, 255, 255, 255, 255]),
        ] {
            let mut out = Vec::new();
            head(&mut out, UINT, number);
            assert_eq!(out, bytes, "{number}");
            let (rest, len) = (&out[..], out.len());
            assert_eq!(Cbor { rest, len }.head(UINT), Ok(number));
        }
        let mut out = Vec::new();
        text(&mut out, "IETF");
        assert_eq!(out, [0x64, 0x49, 0x45, 0x54, 0x46]);
    }

    #[test]
    fn a_header_reads_back_and_ends_at_a_multiple_of_256() {
        for count in [0, 1, 15, 300] {
            let tensors: Vec<Descriptor> = (0..count)
                .map(|i| descriptor(&format!("tensor-{i:03}"), &[i, 70_000], (5 << 32, 6 << 32)))
                .collect();
            let header = encode(&tensors);
            let (found, start) = decode(&header).expect("a whole header");
            assert_eq!(found, tensors);
            assert_eq!(start, header.len() as u64);
            assert_eq!(start % 256, 0);
        }
    }

    #[test]
    fn damage_is_named_and_announced_lengths_are_not_believed() {
        let header = encode(&[descriptor("a", &[2], (0, 4))]);
        let with = |at: usize, bytes: &[u8]| {
            let mut header = header.clone();
            header[at..at + bytes.len()].copy_from_slice(bytes);
            decode(&header).expect_err("damage")
        };
        assert_eq!(
            decode(&header[..9]),
            Err("expected a header of 10 bytes, found 9".into())
        );
        assert_eq!(
            with(0, b"BURN"),
            "expected the mark 0x4255524e, found 0x4e525542"
        );
        assert_eq!(with(4, &[2]), "expected burnpack version 1, found 2");
        assert_eq!(
            with(6, &[0xff; 4]),
            "expected metadata of at most 246 bytes, found a length of 4294967295"
        );
        // The map of tensors announces 2^32 entries, and a name of 2^63 bytes.
        let tensors = FIXED + 1 + 8;
        let message = with(tensors, &[0xba, 0xff, 0xff, 0xff, 0xff]);
        assert!(message.starts_with("byte "), "{message}");
        let message = with(tensors + 1, &[0x7b, 0x80, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(
            message,
            "byte 19 of its metadata: expected text within the metadata, found \
             `9223372036854775808 bytes`"
        );
    }
}
