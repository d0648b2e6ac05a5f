//! `cargo xtask train-demo`.
mod cast;
mod corpus;
mod grammar;
mod scene;

#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    #[arg(long)]
    corpus: Option<u64>,
}
pub(crate) fn run(args: &DemoArgs) -> anyhow::Result<()> {
    let corpus = corpus::Corpus::new(1)?;
    for i in 0..args.corpus.unwrap_or(0) {
        println!("=== {}\n{}\n", corpus.name(corpus::Split::Train, i)?, corpus.document(corpus::Split::Train, i)?);
    }
    Ok(())
}
