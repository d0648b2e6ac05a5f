//! The examples at the end of each help text.

pub(super) const ALL: &str = "\
Examples:
  olmo2-cli generate \"Once upon a time\"
  olmo2-cli chat --model allenai/OLMo-2-0425-1B-Instruct
  olmo2-cli bench --model ./olmo2-1b --threads 2";

pub(super) const GENERATE: &str = "\
Examples:
  olmo2-cli generate \"Once upon a time\"
  olmo2-cli generate --prompt-file story.txt -n 100 --temperature 0.8 --seed 7
  olmo2-cli generate \"Q: 2+2? A:\" --stop \"Q:\" --model allenai/OLMo-2-0425-1B
  olmo2-cli generate --ids 5159,836,374 --json --model ./olmo2-1b";

pub(super) const CHAT: &str = "\
Examples:
  olmo2-cli chat --model allenai/OLMo-2-0425-1B-Instruct
  olmo2-cli chat --model ./instruct --system \"Answer in one sentence.\"
  printf 'Hello\\n/stats\\n' | olmo2-cli chat";

pub(super) const TOKENIZE: &str = "\
Examples:
  olmo2-cli tokenize \"Once upon a time\"
  olmo2-cli tokenize --file story.txt --json
  olmo2-cli tokenize --decode 5159,836,374 --model allenai/OLMo-2-0425-1B";

pub(super) const LOGITS: &str = "\
Examples:
  olmo2-cli logits --ids 5159,836,374 --out logits.safetensors --model ./olmo2-1b
  olmo2-cli logits \"Once upon a time\" --out all.safetensors --hidden";

pub(super) const PERPLEXITY: &str = "\
Method:
  Windows of `--context` tokens start every `--stride` tokens. Each token is scored once, in the
  first window that holds it, given all tokens of the window before it; the text's very first
  token is not scored, since OLMo 2 has no token before a text. The results are the mean negative
  log-likelihood in nats a token, and the perplexity, its exponential.

Examples:
  olmo2-cli perplexity story.txt
  olmo2-cli perplexity wiki.txt --model ./olmo2-1b --context 2048 --stride 512 --json";

pub(super) const BENCH: &str = "\
Method:
  Prefill and decoding each run once to warm up, then `--repetitions` times; figures are medians.
  On flex, `bench` measures the limits of the machine between the runs, with the same threads, and
  prints each figure as a share of its limit: after each decoded token the memory bandwidth, by
  reading the same weights again; after each run the peak of multiply-adds, each counted as two
  operations. Decoding's share of the bandwidth counts the bytes of the weights and, with
  `--depth`, of the keys and values that a token attends to. Prefill's share of the peak counts the
  matrices of the layers, not attention and not the head, which runs for the last position only.
  The peak is that of int8 for quantized weights, of bf16 for bf16 weights with `--dtype bf16` where
  the CPU multiplies bf16, else of f32. CPUs with AMX multiply int8 and bf16 in tiles, that is in
  whole blocks of a matrix at once: prefill is then compared with the peak of tiles. With `--batch`,
  decoding also has a share of the peak of vectors, which counts the head.

Examples:
  olmo2-cli bench --model ./olmo2-1b --threads 2
  olmo2-cli bench -p 0 -n 64 --depth 2048 --json --model ./olmo2-1b
  olmo2-cli bench -p 128 -n 32 --batch 8";

pub(super) const CONVERT: &str = "\
Examples:
  olmo2-cli convert allenai/OLMo-2-0425-1B -o olmo2-1b --dtype bf16
  olmo2-cli convert ./my-olmo2 -o my-olmo2-q4 --quantize q4 --quantize-head q8";

pub(super) const CHECK: &str = "\
Examples:
  olmo2-cli check --model ./olmo2-1b";

pub(super) const ACCURACY: &str = "\
Method:
  The logits of each format are compared with those in f32: the root mean square of the difference
  relative to that of the logits, the Kullback-Leibler divergence of the next token's distribution
  in nats, and how often the most likely token is the same. The error of weights is the root mean
  square of their difference, relative to that of the weights.

Examples:
  olmo2-cli accuracy
  olmo2-cli accuracy --model ./my-olmo2 --tokens 256";

pub(super) const COMPARE: &str = "\
Examples:
  olmo2-cli compare ./my-olmo2 ./my-olmo2-record
  olmo2-cli compare ./my-olmo2 --against quantize=q4 --tolerance 0.5 --json";

pub(super) const MODELS: &str = "\
Examples:
  olmo2-cli models list
  olmo2-cli models revisions allenai/OLMo-2-0425-1B
  olmo2-cli models remove allenai/OLMo-2-0425-1B --revision stage1-step140000-tokens294B";

pub(super) const COMPLETIONS: &str = "\
Examples:
  olmo2-cli completions bash > ~/.local/share/bash-completion/completions/olmo2-cli
  olmo2-cli completions fish > ~/.config/fish/completions/olmo2-cli.fish";
