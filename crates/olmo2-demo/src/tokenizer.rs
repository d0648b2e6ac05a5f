//! The demo's byte-level BPE tokenizer: the pre-tokenizer of OLMo 2, merges learnt from the corpus.

use anyhow::{Result, anyhow};
use serde_json::json;
use tokenizers::decoders::byte_level::ByteLevel as ByteLevelDecoder;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::{AddedToken, Tokenizer, TokenizerImpl};
use tokenizers::{DecoderWrapper, NormalizerWrapper, PostProcessorWrapper};

use crate::corpus::{Corpus, END_OF_TEXT, Split as CorpusSplit};

/// Pads a batch; never trained on.
pub(crate) const PAD: &str = "<|pad|>";

/// Pieces with the special tokens, a multiple of 128 as in the released models.
pub(crate) const VOCAB_SIZE: usize = 2048;

/// cl100k's splitting, as in dolma2's `tokenizer.json`.
const PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Verbatim from OLMo 2 Instruct.
const CHAT_TEMPLATE: &str = "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}{{ '<|system|>\n' + message['content'] + '\n' }}{% elif message['role'] == 'user' %}{{ '<|user|>\n' + message['content'] + '\n' }}{% elif message['role'] == 'assistant' %}{% if not loop.last %}{{ '<|assistant|>\n'  + message['content'] + eos_token + '\n' }}{% else %}{{ '<|assistant|>\n'  + message['content'] + eos_token }}{% endif %}{% endif %}{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}{% endfor %}";

type Bpe = TokenizerImpl<
    BPE,
    NormalizerWrapper,
    PreTokenizerWrapper,
    PostProcessorWrapper,
    DecoderWrapper,
>;

/// Learns merges from the first `documents` of the training split.
///
/// # Errors
/// The corpus, or the tokenizer's trainer.
pub(crate) fn train(corpus: &Corpus, documents: u64) -> Result<Tokenizer> {
    let texts = (0..documents)
        .map(|index| {
            corpus
                .document(CorpusSplit::Train, index)
                .map(|text| text.replace(END_OF_TEXT, ""))
        })
        .collect::<Result<Vec<String>>>()?;
    let split = Split::new(
        SplitPattern::Regex(PATTERN.into()),
        SplitDelimiterBehavior::Removed,
        true,
    )
    .map_err(|error| anyhow!("{error}"))?;
    let mut tokenizer: Bpe = TokenizerImpl::new(BPE::default());
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![
        split.into(),
        ByteLevel::new(false, true, false).into(),
    ])));
    tokenizer.with_decoder(Some(DecoderWrapper::from(ByteLevelDecoder::new(
        true, true, true,
    ))));
    let mut trainer = BpeTrainer::builder()
        .vocab_size(VOCAB_SIZE - 2)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    tokenizer
        .train(&mut trainer, texts.iter())
        .map_err(|error| anyhow!("{error}"))?;
    // Behind the pieces, as in the released tokenizer.
    let special =
        [END_OF_TEXT, PAD].map(|content| AddedToken::from(content, true).normalized(false));
    tokenizer
        .add_special_tokens(special)
        .map_err(|error| anyhow!("{error}"))?;
    Ok(tokenizer.into())
}

/// The id of a special token.
///
/// # Errors
/// The tokenizer has no such token.
pub(crate) fn special_id(tokenizer: &Tokenizer, content: &str) -> Result<u32> {
    tokenizer
        .token_to_id(content)
        .ok_or_else(|| anyhow!("the tokenizer has no `{content}`"))
}

/// `tokenizer_config.json`, with the chat template of OLMo 2 Instruct.
pub(crate) fn config_json(context: usize) -> serde_json::Value {
    json!({
        "add_prefix_space": false,
        "bos_token": END_OF_TEXT,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": false,
        "eos_token": END_OF_TEXT,
        "model_max_length": context,
        "pad_token": PAD,
        "tokenizer_class": "GPT2Tokenizer",
        "unk_token": END_OF_TEXT,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Tokenizer {
        train(&Corpus::new(7).unwrap(), 300).unwrap()
    }

    #[test]
    fn training_twice_gives_the_same_bytes() {
        assert_eq!(
            small().to_string(false).unwrap(),
            small().to_string(false).unwrap()
        );
    }

    #[test]
    fn text_comes_back_from_its_ids() {
        let (tokenizer, corpus) = (small(), Corpus::new(7).unwrap());
        let mut texts: Vec<String> = (0..50)
            .map(|index| corpus.document(CorpusSplit::HeldOut, index).unwrap())
            .collect();
        texts.push("Grüße, 生活 🦊 12345  two spaces\n\n\ttab".into());
        for text in texts {
            let ids = tokenizer.encode(text.as_str(), false).unwrap();
            assert_eq!(tokenizer.decode(ids.get_ids(), false).unwrap(), text);
        }
    }

    #[test]
    fn special_tokens_are_last_and_chat_marks_are_text() {
        let tokenizer = small();
        assert_eq!(tokenizer.get_vocab_size(true), VOCAB_SIZE);
        assert_eq!(
            special_id(&tokenizer, END_OF_TEXT).unwrap(),
            VOCAB_SIZE as u32 - 2
        );
        assert_eq!(special_id(&tokenizer, PAD).unwrap(), VOCAB_SIZE as u32 - 1);
        assert!(tokenizer.token_to_id("<|user|>").is_none());
        let ids = tokenizer.encode("<|endoftext|><|user|>", true).unwrap();
        assert_eq!(ids.get_ids()[0], VOCAB_SIZE as u32 - 2);
        assert!(ids.len() > 2);
    }
}
