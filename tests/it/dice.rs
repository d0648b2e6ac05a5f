//! Random faults for files: in bytes, and in JSON.

use olmo2::record::RECEIPT;
use serde_json::{Value, json};

/// A generator of which the case is the seed (splitmix64, Steele et al. 2014).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// One to three faults among the first `reach` bytes.
    pub(crate) fn break_bytes(&mut self, bytes: &mut Vec<u8>, reach: usize) {
        for _ in 0..1 + self.below(3) {
            let at = self.below(reach.min(bytes.len()));
            let run = (1 + self.below(9)).min(bytes.len() - at);
            match self.below(7) {
                _ if bytes.is_empty() => {}
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = self.next() as u8,
                2 => bytes[at..at + run]
                    .fill(*[0, 0xff, 0x7f, b'9'].get(self.below(4)).unwrap_or(&0)),
                3 => bytes.truncate(at),
                4 => drop(bytes.drain(at..at + run)),
                5 => bytes.insert(at, self.next() as u8),
                _ => {
                    let copy = bytes[at..at + run].to_vec();
                    bytes.splice(at..at, copy);
                }
            }
        }
    }

    /// One to two faults anywhere in a JSON value.
    pub(crate) fn break_json(&mut self, value: &mut Value) {
        for _ in 0..1 + self.below(2) {
            self.break_node(value);
        }
    }

    fn break_node(&mut self, value: &mut Value) {
        match value {
            Value::Object(map) if !map.is_empty() && self.below(5) > 0 => {
                let keys: Vec<String> = map.keys().cloned().collect();
                let key = &keys[self.below(keys.len())];
                match self.below(12) {
                    0 => drop(map.remove(key)),
                    1 => {
                        let moved = map.remove(key).unwrap_or_default();
                        map.insert(format!("{key}x"), moved);
                    }
                    2 => {
                        let other = map[&keys[self.below(keys.len())]].clone();
                        map[key] = other;
                    }
                    _ => self.break_node(&mut map[key]),
                }
            }
            Value::Array(items) if !items.is_empty() && self.below(4) > 0 => {
                let at = self.below(items.len());
                match self.below(6) {
                    0 => drop(items.remove(at)),
                    1 => items.push(items[at].clone()),
                    _ => self.break_node(&mut items[at]),
                }
            }
            value => *value = self.odd_value(),
        }
    }

    pub(crate) fn broken_record_file(&mut self, name: &str, whole: &[u8]) -> Vec<u8> {
        let mut bytes = whole.to_vec();
        if name == RECEIPT && self.below(3) > 0 {
            let mut receipt = serde_json::from_slice(&bytes).expect("JSON");
            self.break_json(&mut receipt);
            return receipt.to_string().into_bytes();
        }
        let reach = if self.below(2) == 0 { 400 } else { whole.len() };
        self.break_bytes(&mut bytes, reach);
        // Half of the faults change no length, which the receipt would find alone.
        if self.below(2) == 0 {
            bytes.resize(whole.len(), 0);
        }
        bytes
    }

    pub(crate) fn odd_value(&mut self) -> Value {
        let odd = [
            json!(null),
            json!(true),
            json!(-1),
            json!(0),
            json!(1),
            json!(3),
            json!(8),
            json!(4096),
            json!(1 << 28),
            json!(u32::MAX),
            json!(1_u64 << 40),
            json!(1_u64 << 62),
            json!(u64::MAX),
            json!(0.5),
            json!(1e308),
            json!(-0.0),
            json!(""),
            json!("BF16"),
            json!("F64"),
            json!("../x.safetensors"),
            json!("x".repeat(5000)),
            json!([]),
            json!([0]),
            json!([1, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
            json!([u64::MAX, u64::MAX]),
            json!({}),
            json!({"a": {"b": []}}),
        ];
        odd[self.below(odd.len())].clone()
    }
}
