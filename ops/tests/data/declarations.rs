//! What is true of the declaration of every op.

use std::path::{Path, PathBuf};

use blip_engine::{Body, Workflow};
use blip_grammar::{OpKind, Source};

/// Whether a text begins with a capital letter or a code word and ends with a full stop.
fn is_sentence(text: &str) -> bool {
    let begins = text
        .chars()
        .next()
        .is_some_and(|c| c.is_uppercase() || c == '`' || c == '[');
    begins && text.ends_with('.') && !text.contains("  ")
}

#[test]
fn the_declarations_are_consistent() {
    let signatures = blip_ops::all().signatures().unwrap();
    assert!(signatures.ops().count() >= 6);
}

#[test]
fn docs_are_sentences_and_examples_check() {
    let ops = blip_ops::all();
    for op in ops.ops() {
        let signature = &op.signature;
        let name = signature.name;
        assert!(is_sentence(signature.doc), "{name}: {}", signature.doc);
        for arg in &signature.args {
            assert!(is_sentence(arg.doc), "{name}({}): {}", arg.name, arg.doc);
        }
        assert!(
            signature.example.starts_with(name),
            "{name}: {}",
            signature.example
        );
        assert_eq!(
            matches!(op.body, Body::Config),
            signature.kind == OpKind::Config,
            "{name}"
        );
    }
    for format in ops.signatures().unwrap().formats() {
        assert!(is_sentence(format.doc), "{}: {}", format.name, format.doc);
    }
}

/// Names that examples may use, bound as in the README's workflow.
const BOUND: &str = "\
web_pairs   = read.webdataset(\"web.tar\")
human_pairs = read.captions(\"list.json\")
test        = read.captions(\"test.json\")
vocab       = read.wordpiece(\"vocab.txt\")
net         = med(vision = vit.tiny(image = 32), text = bert.tiny(), vocab)
base        = pretrain(net, merge(web_pairs, human_pairs), epochs = 1, seed = 1)
captioner   = finetune_captioner(base, human_pairs, epochs = 1, seed = 1)
judge       = finetune_filter(base, human_pairs, epochs = 1, seed = 1)
synthetic   = caption(captioner, web_pairs, seed = 1)
scored      = score(judge, web_pairs)
kept        = filter(judge, merge(web_pairs, synthetic), threshold = 0.5)
bootstrap   = merge(kept, human_pairs)
pairs       = merge(web_pairs)
threshold   = 0.5
seed        = 42
";

#[test]
fn every_example_checks() {
    for op in blip_ops::all().ops() {
        let params = BOUND
            .replace("\nthreshold   =", "\nparam threshold =")
            .replace("\nseed        =", "\nparam seed =");
        let text = format!("{params}example = {}\n", op.signature.example);
        let source = Source::new("example.blip", &text).unwrap();
        if let Err(found) = Workflow::parse(&source, &blip_ops::all(), &[]) {
            panic!("{}: {found:#?}", op.signature.name);
        }
    }
}

/// All files of this suffix below a folder.
fn files(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, suffix));
        } else if path
            .extension()
            .is_some_and(|extension| extension == suffix)
        {
            found.push(path);
        }
    }
    found
}

/// An op is declared in the file that bears its name: `read.scenes` in `read/scenes.rs`. Every file
/// begins with its documentation.
#[test]
fn every_op_has_its_file() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let texts: Vec<(PathBuf, String)> = files(&source, "rs")
        .into_iter()
        .map(|path| (path.clone(), std::fs::read_to_string(path).unwrap()))
        .collect();
    for op in blip_ops::all().ops() {
        let name = op.signature.name;
        let expected = source.join(name.replace('.', "/")).with_extension("rs");
        let named = texts
            .iter()
            .filter(|(_, text)| text.contains(&format!("\"{name}\"")));
        let declared: Vec<&Path> = named.map(|(path, _)| path.as_path()).collect();
        assert!(!declared.is_empty(), "{name} is declared nowhere");
        assert!(
            declared.contains(&expected.as_path()) || !expected.exists(),
            "{name} is not declared in {}",
            expected.display()
        );
    }
    for (path, text) in &texts {
        assert!(
            text.starts_with("//! "),
            "{} does not begin with its documentation",
            path.display()
        );
    }
}

/// Tests or workflows call every op.
#[test]
fn every_op_is_called_in_a_test_or_a_workflow() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut cases = files(&root.join("ops/tests"), "rs");
    cases.extend(files(&root.join("workflows"), "blip"));
    cases.retain(|path| !path.ends_with("declarations.rs"));
    let texts: String = cases
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    // The steps of `filter` are called by `filter`.
    let steps = ["score", "select"];
    let missing: Vec<&str> = blip_ops::all()
        .ops()
        .map(|op| op.signature.name)
        .filter(|name| !steps.contains(name))
        .filter(|name| !texts.contains(&format!("{name}(")))
        .collect();
    assert_eq!(missing, [""; 0], "ops that no test or workflow calls");
}
