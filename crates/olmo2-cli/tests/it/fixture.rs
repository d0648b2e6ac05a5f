//! Models for the tests: the goldens, and one of them with a tokenizer of bytes.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A golden's folder.
pub(crate) fn golden(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    folder.join(name).to_str().expect("UTF-8").to_owned()
}

/// One prompt of a golden, as transformers answered it (`tests/golden`).
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) ids: Vec<u32>,
    pub(crate) greedy: Vec<u32>,
    pub(crate) logits: Vec<f32>,
    pub(crate) hidden: Vec<f32>,
}

/// Prompt `k` of a golden.
pub(crate) fn expected(name: &str, k: usize) -> Expected {
    let path = PathBuf::from(golden(name)).join("golden.safetensors");
    let bytes = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    Expected {
        ids: ids(&file, &format!("ids.{k}")),
        greedy: ids(&file, &format!("greedy.{k}")),
        logits: floats(&file, &format!("logits.{k}")),
        hidden: floats(&file, &format!("hidden.{k}")),
    }
}

fn ids(file: &SafeTensors<'_>, name: &str) -> Vec<u32> {
    let view = file.tensor(name).expect(name);
    let ids = view.data().as_chunks::<8>().0.iter();
    ids.map(|bytes| i64::from_le_bytes(*bytes) as u32).collect()
}

/// The f32 values of a tensor.
pub(crate) fn floats(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let view = file.tensor(name).expect(name);
    assert_eq!(view.dtype(), safetensors::Dtype::F32);
    let values = view.data().as_chunks::<4>().0.iter();
    values.map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// Ids as `--ids` takes them.
pub(crate) fn list(ids: &[u32]) -> String {
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    ids.join(",")
}

/// `gqa-tiny` with a tokenizer: ids 0 to 255 are bytes, 256 to 509 pairs of letters that no text
/// is encoded to, 510 `<|endoftext|>`, 511 `<|pad|>`.
#[derive(Debug)]
pub(crate) struct Model {
    folder: TempDir,
}

impl Model {
    pub(crate) fn new() -> Self {
        let model = Self {
            folder: tempfile::tempdir().expect("a folder"),
        };
        for file in ["config.json", "model.safetensors"] {
            let from = PathBuf::from(golden("gqa-tiny")).join(file);
            fs::copy(from, model.folder.path().join(file)).expect("copied");
        }
        model.with("tokenizer.json", &tokenizer().to_string())
    }

    /// Adds a file, or replaces it.
    pub(crate) fn with(self, file: &str, content: &str) -> Self {
        fs::write(self.folder.path().join(file), content).expect("written");
        self
    }

    pub(crate) fn path(&self) -> &str {
        self.folder.path().to_str().expect("UTF-8")
    }
}

/// A template that spells out roles, as OLMo 2's does.
pub(crate) const TEMPLATE: &str = "{% for m in messages %}<|{{ m['role'] }}|>\n\
    {{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}";

/// The text of an id by [`Model`]'s tokenizer, for ids that are ASCII or pairs.
fn token(id: u32) -> String {
    match id {
        0..256 => byte_char(id as u8).to_string(),
        _ => {
            let (a, b) = ((id - 256) / 26, (id - 256) % 26);
            [a, b].map(|i| char::from(b'a' + i as u8)).iter().collect()
        }
    }
}

/// GPT-2's printable character for a byte (`bytes_to_unicode` in OpenAI's `encoder.py`).
fn byte_char(byte: u8) -> char {
    let printable = |b: u32| matches!(b, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let code = u32::from(byte);
    match printable(code) {
        true => char::from(byte),
        false => {
            let before = (0..code).filter(|b| !printable(*b)).count();
            char::from_u32(256 + before as u32).expect("a character")
        }
    }
}

/// The `tokenizer.json` of [`Model`].
pub(crate) fn tokenizer() -> Value {
    let vocab: serde_json::Map<_, _> = (0..510).map(|id| (token(id), id.into())).collect();
    let added = |id: u32, content| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true})
    };
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
        "use_regex": false});
    json!({
        "version": "1.0",
        "added_tokens": [added(510, "<|endoftext|>"), added(511, "<|pad|>")],
        "pre_tokenizer": bytes, "decoder": bytes,
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    })
}
