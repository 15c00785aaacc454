//! The texts that are measured.

use std::fmt::Write as _;

use blip_grammar::{Arg, Signature, Signatures, Type};

/// What every workflow begins with.
const HEAD: &str = "\
# Captions and filters, shard by shard.
param threshold = 0.5 in 0.0..1.0  # the least probability of a match
vocab     = read.wordpiece(\"vocab.txt\")
net       = med(vision = vit.base(image = 224), text = bert.base, vocab)
human     = read.captions(\"human.json\", images = \"pictures\")
base      = pretrain(net, human, epochs = 5, batch = 256, lr = 3e-4)
captioner = finetune_captioner(base, human, prompt = \"a picture of \")
judge     = finetune_filter(base, human, betas = [0.9, 0.999])
";
const HEAD_STATEMENTS: usize = 7;

/// A workflow of so many statements, at least seven, as people write them.
pub(crate) fn written(statements: usize) -> String {
    let mut text = HEAD.to_owned();
    for number in 0..statements - HEAD_STATEMENTS {
        let shard = number / 4;
        let _ = match number % 4 {
            0 => writeln!(
                text,
                "\n# Shard {shard}\nweb_{shard} = read.webdataset(\"web/{shard:05}.tar\", limit = 10_000)"
            ),
            1 => writeln!(
                text,
                "new_{shard} = caption(captioner, web_{shard}, decode = nucleus(top_p = 0.9), seed = {shard})"
            ),
            2 => writeln!(
                text,
                "kept_{shard} = filter(judge, merge(web_{shard}, new_{shard}), threshold)"
            ),
            _ => writeln!(
                text,
                "export kept_{shard} as webdataset \"out/{shard}/{{shard:05}}.tar\""
            ),
        };
    }
    text
}

/// A workflow of so many statements of nine bytes each, up to 210,000 of them.
pub(crate) fn short(statements: usize) -> String {
    let mut text = String::from("a=m()\n");
    for number in 1..statements {
        let _ = writeln!(text, "{}=m(a)", name(number));
    }
    text
}

/// The op of [`short`].
pub(crate) fn short_signatures() -> Signatures {
    let ty = Type::Named("Text");
    let op = Signature::stage("m", ty, "A short name.").arg(Arg::optional("from", ty, "what"));
    Signatures::new(vec![op], Vec::new(), vec!["Text"]).expect("a right declaration")
}

/// A name of three characters.
fn name(number: usize) -> String {
    const CHARACTERS: &[u8] = b"_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    const COUNT: usize = CHARACTERS.len();
    // Digits are the last ten: a name does not begin with one.
    let at = [
        number / (COUNT * COUNT) % (COUNT - 10),
        number / COUNT % COUNT,
        number % COUNT,
    ];
    at.iter().map(|at| char::from(CHARACTERS[*at])).collect()
}

/// A file of the peer's language of at least so many bytes that says much the same.
pub(crate) fn toml(bytes: usize) -> String {
    let mut text = String::new();
    let mut number = 0;
    while text.len() < bytes {
        let _ = writeln!(
            text,
            "new_{number} = {{ op = \"caption\", inputs = [\"captioner\", \"web_{number}\"], top_p = 0.9, seed = {number} }}"
        );
        number += 1;
    }
    text
}
