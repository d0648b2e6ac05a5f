//! Rows of token ids for training and for the held-out loss, each a function of its index alone, so
//! that a resumed run sees what an unbroken one would.

use anyhow::{Result, anyhow};
use tokenizers::Tokenizer;

use crate::corpus::{Corpus, END_OF_TEXT, Split};
use crate::tokenizer::special_id;

/// Documents set aside for one row: more than fit.
const DOCUMENTS_PER_ROW: u64 = 64;

/// Encoded documents, packed.
#[derive(Debug)]
pub(crate) struct Rows {
    corpus: Corpus,
    tokenizer: Tokenizer,
    end_of_text: u32,
    length: usize,
}

impl Rows {
    /// Rows of `length` tokens.
    ///
    /// # Errors
    /// A tokenizer without `<|endoftext|>`.
    pub(crate) fn new(corpus: Corpus, tokenizer: Tokenizer, length: usize) -> Result<Self> {
        let end_of_text = special_id(&tokenizer, END_OF_TEXT)?;
        Ok(Self {
            corpus,
            tokenizer,
            end_of_text,
            length,
        })
    }

    /// Documents one after another, each ended by `<|endoftext|>`, the last one cut. A row starts
    /// with a document, every other row with `<|endoftext|>` before it: a prompt starts in the
    /// first way, a chat in the second.
    ///
    /// # Errors
    /// The corpus or the tokenizer.
    pub(crate) fn row(&self, split: Split, index: u64) -> Result<Vec<u32>> {
        let mut ids = Vec::with_capacity(self.length + 512);
        if index % 2 == 1 {
            ids.push(self.end_of_text);
        }
        let mut document = index * DOCUMENTS_PER_ROW;
        while ids.len() < self.length {
            let text = self.corpus.document(split, document)?;
            document += 1;
            // A row that begins with a chat begins as the template does.
            if ids.is_empty() && text.starts_with("<|user|>") {
                ids.push(self.end_of_text);
            }
            let encoding = self
                .tokenizer
                .encode(text, false)
                .map_err(|error| anyhow!("{error}"))?;
            ids.extend_from_slice(encoding.get_ids());
            ids.push(self.end_of_text);
        }
        ids.truncate(self.length);
        Ok(ids)
    }

    /// `count` rows from `first` on.
    ///
    /// # Errors
    /// The corpus or the tokenizer.
    pub(crate) fn rows(&self, split: Split, first: u64, count: usize) -> Result<Vec<Vec<u32>>> {
        (first..first + count as u64)
            .map(|index| self.row(split, index))
            .collect()
    }

    pub(crate) fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer;

    #[test]
    fn rows_are_full_and_depend_on_their_index_alone() {
        let rows = || {
            let corpus = Corpus::new(7).unwrap();
            let tokenizer = tokenizer::train(&corpus, 200).unwrap();
            Rows::new(corpus, tokenizer, 96).unwrap()
        };
        let (one, two) = (rows(), rows());
        two.row(Split::Train, 5).unwrap();
        let row = one.row(Split::Train, 9).unwrap();
        assert_eq!(row, two.row(Split::Train, 9).unwrap());
        assert_eq!(row.len(), 96);
        assert_eq!(row[0], one.end_of_text);
        assert_ne!(row, one.row(Split::Train, 11).unwrap());
        assert_ne!(row, one.row(Split::HeldOut, 9).unwrap());
    }
}
