//! Toy ops on texts and lines: small, deterministic, and counted.

use std::fs;
use std::time::Duration;

use blip_engine::digest::Digest;
use blip_engine::{
    ExportOp, ExportSummary, Item, MapOp, MapWorker, Op, OpError, OpSet, Output, StageCtx,
    UnitResult, Work,
};
use blip_grammar::{Arg, ExportFormat, Signature, Type};

use crate::world::Calls;

const TEXT: Type = Type::Named("Text");
const LINES: Type = Type::Named("Lines");

pub(crate) fn ops(calls: &Calls) -> OpSet {
    let format = ExportFormat {
        name: "txt",
        accepts: &[TEXT, LINES],
        doc: "The bytes as they are.",
    };
    let export = {
        let calls = calls.clone();
        ExportOp {
            format,
            version: 1,
            run: std::sync::Arc::new(move |ctx, artifact, target| {
                calls.count("export");
                let bytes = ctx.read(&artifact.digest)?;
                fs::write(target.folder.join(&target.name), bytes)
                    .map_err(|error| OpError::failed(error.to_string(), "make room"))?;
                Ok(ExportSummary::default())
            }),
        }
    };
    let ops = [
        text(calls),
        upper(calls),
        length(calls),
        join(calls),
        file(calls),
        machine(calls),
    ];
    let failing = [
        flaky(calls),
        panicking(),
        waiting(calls),
        pair(),
        crashing(),
        stubborn(),
        hungry(),
    ];
    let data = [
        counted(calls),
        lines(calls),
        shout(calls),
        show(calls),
        train(calls),
        parcel(calls),
        slow(calls),
    ];
    ops.into_iter()
        .chain(failing)
        .chain(data)
        .fold(OpSet::new(), OpSet::with)
        .with_export(export)
        .with_export(words())
}

/// Writes a folder with a file for each word, in folders by its first letter.
fn words() -> ExportOp {
    let format = ExportFormat {
        name: "words",
        accepts: &[TEXT],
        doc: "A file for each word.",
    };
    ExportOp {
        format,
        version: 1,
        run: std::sync::Arc::new(|ctx, artifact, target| {
            let text = String::from_utf8(ctx.read(&artifact.digest)?).unwrap();
            for word in text.split_whitespace() {
                let folder = target.folder.join(&target.name).join(&word[..1]);
                fs::create_dir_all(&folder)
                    .and_then(|()| fs::write(folder.join(word), word))
                    .map_err(|error| OpError::failed(error.to_string(), "make room"))?;
            }
            Ok(ExportSummary::default())
        }),
    }
}

fn input(name: &'static str) -> Arg {
    Arg::required(name, TEXT, "a text")
}

fn read(ctx: &StageCtx, arg: &str) -> Result<String, OpError> {
    let bytes = ctx.read(&ctx.input(arg)?.digest)?;
    String::from_utf8(bytes).map_err(|error| OpError::Bug(error.to_string()))
}

fn put(ctx: &StageCtx, text: &str) -> Result<Output, OpError> {
    Ok(Output::of(ctx.put(text.as_bytes())?))
}

fn text(calls: &Calls) -> Op {
    let calls = calls.clone();
    let signature = Signature::stage("text", TEXT, "A text.")
        .arg(Arg::required("value", Type::Str, "the text"))
        .arg(Arg::with_default("size", Type::Float, "1.0", "without meaning").within(0.0, 10.0));
    Op::run(signature, 1, move |ctx| {
        calls.count("text");
        put(ctx, ctx.args().string("value")?)
    })
}

fn upper(calls: &Calls) -> Op {
    let calls = calls.clone();
    let threads = Arg::with_default("threads", Type::Int, "1", "how many").not_in_key();
    Op::run(
        Signature::stage("upper", TEXT, "Upper case.")
            .arg(input("from"))
            .arg(threads),
        1,
        move |ctx| {
            calls.count("upper");
            put(ctx, &read(ctx, "from")?.to_uppercase())
        },
    )
}

fn length(calls: &Calls) -> Op {
    let calls = calls.clone();
    Op::run(
        Signature::stage("length", TEXT, "How long a text is.").arg(input("from")),
        1,
        move |ctx| {
            calls.count("length");
            put(ctx, &read(ctx, "from")?.len().to_string())
        },
    )
}

fn join(calls: &Calls) -> Op {
    let calls = calls.clone();
    Op::run(
        Signature::stage("join", TEXT, "Joins.").arg(input("parts").variadic()),
        1,
        move |ctx| {
            calls.count("join");
            let mut parts = Vec::new();
            for part in ctx.inputs("parts")? {
                parts.extend(ctx.read(&part.digest)?);
            }
            Ok(Output::of(ctx.put(&parts)?))
        },
    )
}

fn file(calls: &Calls) -> Op {
    let calls = calls.clone();
    let signature =
        Signature::stage("file", TEXT, "Files.").arg(Arg::required("path", Type::Path, "which"));
    let op = Op::run(signature, 1, move |ctx| {
        calls.count("file");
        let mut bytes = Vec::new();
        for source in ctx.sources() {
            bytes.extend(
                fs::read(&source.path)
                    .map_err(|error| OpError::failed(error.to_string(), "look"))?,
            );
        }
        Ok(Output::of(ctx.put(&bytes)?))
    });
    op.reading(|args, files| files.glob(args.path("path")?))
}

/// Its result is a file that is moved into the cache.
fn parcel(calls: &Calls) -> Op {
    let calls = calls.clone();
    Op::run(
        Signature::stage("parcel", TEXT, "By file.").arg(input("from")),
        1,
        move |ctx| {
            calls.count("parcel");
            let path = ctx.scratch().join("parcel");
            fs::write(&path, format!("<{}>", read(ctx, "from")?))
                .map_err(|error| OpError::failed(error.to_string(), "look"))?;
            Ok(Output::of(ctx.put_file(&path)?))
        },
    )
}

/// Gives the text after some time, during which it can be interrupted.
fn slow(calls: &Calls) -> Op {
    let calls = calls.clone();
    let signature = Signature::stage("slow", TEXT, "Takes its time.")
        .arg(input("from"))
        .arg(Arg::with_default("ms", Type::Int, "100", "how long").not_in_key());
    Op::run(signature, 1, move |ctx| {
        calls.count("slow");
        let end = std::time::Instant::now() + Duration::from_millis(ctx.args().count("ms")?);
        while std::time::Instant::now() < end {
            ctx.check_interrupted()?;
            std::thread::sleep(Duration::from_millis(1));
        }
        put(ctx, &format!("slow {}", read(ctx, "from")?))
    })
}

fn machine(calls: &Calls) -> Op {
    let calls = calls.clone();
    let op = Op::run(
        Signature::stage("machine", TEXT, "Numeric.").arg(input("from")),
        1,
        move |ctx| {
            calls.count("machine");
            put(ctx, &read(ctx, "from")?)
        },
    );
    op.numeric()
}

/// Fails the first `times` times it is called in a world.
fn flaky(calls: &Calls) -> Op {
    let calls = calls.clone();
    let signature = Signature::stage("flaky", TEXT, "Fails at first.")
        .arg(Arg::required("times", Type::Int, "how often"))
        .arg(Arg::optional("after", TEXT, "what comes before"));
    Op::run(signature, 1, move |ctx| {
        let times = ctx.args().count("times")?;
        if calls.count("flaky") <= times {
            return Err(OpError::failed("it does not work yet", "try once more"));
        }
        put(ctx, "it works")
    })
}

/// Gives a different text each time it is called in a world, as an op that is not deterministic.
fn counted(calls: &Calls) -> Op {
    let calls = calls.clone();
    Op::run(
        Signature::stage("counted", TEXT, "Counts."),
        1,
        move |ctx| {
            let count = calls.count("counted");
            put(ctx, &format!("call {count}"))
        },
    )
}

fn panicking() -> Op {
    Op::run(Signature::stage("panicking", TEXT, "Panics."), 1, |_| {
        panic!("an index is out of bounds")
    })
}

/// Waits for the stop signal.
fn waiting(calls: &Calls) -> Op {
    let calls = calls.clone();
    Op::run(Signature::stage("waiting", TEXT, "Waits."), 1, move |ctx| {
        calls.count("waiting");
        loop {
            ctx.check_interrupted()?;
            std::thread::sleep(Duration::from_millis(1));
        }
    })
}

/// Aborts its process.
fn crashing() -> Op {
    Op::run(Signature::stage("crashing", TEXT, "Aborts."), 1, |_| {
        std::process::abort()
    })
}

/// Ignores the stop signal.
fn stubborn() -> Op {
    Op::run(Signature::stage("stubborn", TEXT, "Hangs."), 1, |ctx| {
        std::thread::sleep(Duration::from_secs(120));
        put(ctx, "late")
    })
}

/// Allocates this many MiB of memory, and holds them for a while.
fn hungry() -> Op {
    let signature = Signature::stage("hungry", TEXT, "Takes memory.").arg(Arg::required(
        "mib",
        Type::Int,
        "how many",
    ));
    Op::run(signature, 1, |ctx| {
        let held: Vec<Vec<u8>> = (0..ctx.args().count("mib")?)
            .map(|_| vec![1; 1 << 20])
            .collect();
        std::thread::sleep(Duration::from_millis(if held.len() > 100 {
            60_000
        } else {
            300
        }));
        put(ctx, &held.len().to_string())
    })
}

/// A composed op: the length of the upper case.
fn pair() -> Op {
    Op::compose(
        Signature::stage("pair", TEXT, "Two steps.").arg(input("from")),
        |args| {
            let upper = [
                ("from", args.get("from").cloned()),
                ("threads", Some(blip_grammar::Value::Int(1))),
            ];
            let first = upper
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)))
                .collect();
            vec![
                blip_engine::Step {
                    op: "upper",
                    args: first,
                    previous: None,
                },
                blip_engine::Step {
                    op: "length",
                    args: blip_grammar::Arguments::default(),
                    previous: Some("from"),
                },
            ]
        },
    )
}

/// A dataset with an item for every line.
fn lines(calls: &Calls) -> Op {
    let calls = calls.clone();
    let signature = Signature::stage("lines", LINES, "Lines.").arg(Arg::required(
        "path",
        Type::Path,
        "which files",
    ));
    let op = Op::run(signature, 1, move |ctx| {
        calls.count("lines");
        let mut writer = ctx.dataset_writer();
        for source in ctx.sources() {
            let text = fs::read_to_string(&source.path)
                .map_err(|error| OpError::failed(error.to_string(), "look"))?;
            for line in text.lines() {
                writer.add(Digest::of(line.as_bytes()), line.as_bytes().to_vec())?;
            }
        }
        writer.finish()
    });
    op.reading(|args, files| files.glob(args.path("path")?))
}

/// Shouts every line, `copies` times; a line with `bad` in it is rejected.
struct Shout {
    calls: Calls,
    mark: String,
    copies: u64,
}

fn shout(calls: &Calls) -> Op {
    let calls = calls.clone();
    let signature = Signature::stage("shout", LINES, "Shouts.")
        .arg(Arg::required("lines", LINES, "the lines"))
        .arg(Arg::with_default(
            "mark",
            Type::Str,
            "\"!\"",
            "what follows",
        ))
        .arg(Arg::with_default("copies", Type::Int, "1", "how often").within(1.0, 100.0));
    Op::map(signature, 1, move |ctx| {
        let args = ctx.args();
        let (mark, copies) = (args.string("mark")?.to_owned(), args.count("copies")?);
        Ok(Box::new(Shout {
            calls: calls.clone(),
            mark,
            copies,
        }))
    })
}

impl MapOp for Shout {
    fn input_arg(&self) -> &'static str {
        "lines"
    }

    fn units(&self, item: &Item) -> Result<Vec<Digest>, OpError> {
        Ok((0..self.copies)
            .map(|copy| Digest::parts("toy", &[&item.payload, &copy.to_be_bytes()]))
            .collect())
    }

    fn args_outside_unit_key(&self) -> &'static [&'static str] {
        &["copies"]
    }

    fn batch(&self) -> usize {
        3
    }

    fn worker(&self, _: &StageCtx) -> Result<Box<dyn MapWorker>, OpError> {
        self.calls.count("load");
        Ok(Box::new(Shouter {
            calls: self.calls.clone(),
            mark: self.mark.clone(),
        }))
    }

    fn assemble(&self, _: &Item, results: &[UnitResult]) -> Result<Vec<u8>, OpError> {
        let text = |result: &UnitResult| match result {
            UnitResult::Ok(bytes) => bytes.clone(),
            UnitResult::Bad(_) => b"-".to_vec(),
        };
        Ok(results.iter().map(text).collect::<Vec<_>>().join(&b' '))
    }
}

struct Shouter {
    calls: Calls,
    mark: String,
}

impl MapWorker for Shouter {
    fn process(&mut self, _: &StageCtx, work: &[Work]) -> Result<Vec<Vec<UnitResult>>, OpError> {
        let unit = |item: &Item, at: &usize| {
            self.calls.count("unit");
            let line = String::from_utf8_lossy(&item.payload);
            if line.contains("bad") {
                return UnitResult::Bad(format!("`{line}` cannot be shouted"));
            }
            UnitResult::Ok(format!("{}{}{at}", line.to_uppercase(), self.mark).into_bytes())
        };
        Ok(work
            .iter()
            .map(|work| work.missing.iter().map(|at| unit(&work.item, at)).collect())
            .collect())
    }
}

fn show(calls: &Calls) -> Op {
    let calls = calls.clone();
    let signature = Signature::stage("show", TEXT, "All lines.").arg(Arg::required(
        "lines",
        LINES,
        "the lines",
    ));
    Op::run(signature, 1, move |ctx| {
        calls.count("show");
        let mut lines = Vec::new();
        for item in ctx.dataset(ctx.input("lines")?)?.items() {
            lines.push(String::from_utf8_lossy(&item?.payload).into_owned());
        }
        lines.sort();
        put(ctx, &lines.join("\n"))
    })
}

/// Training: every step changes a state, which is saved in checkpoints. It sleeps for `pause` after
/// each step.
fn train(calls: &Calls) -> Op {
    let calls = calls.clone();
    let signature = Signature::stage("train", TEXT, "Trains.")
        .arg(input("from"))
        .arg(Arg::required("steps", Type::Int, "how many").within(1.0, 1e6))
        .arg(Arg::with_default(
            "rate",
            Type::Float,
            "0.5",
            "the learning rate",
        ))
        .arg(Arg::with_default("pause", Type::Int, "0", "milliseconds between steps").not_in_key());
    Op::run(signature, 1, move |ctx| {
        let (steps, rate) = (ctx.args().count("steps")?, ctx.args().float("rate")?);
        let pause = Duration::from_millis(ctx.args().count("pause")?);
        let mut state = Digest::of(read(ctx, "from")?.as_bytes());
        let mut done = 0;
        let newest = match ctx.checkpoints().latest()? {
            None => ctx.warm_start("steps")?,
            newest => newest,
        };
        if let Some(checkpoint) = newest {
            let text = fs::read_to_string(checkpoint.folder.join("state")).unwrap_or_default();
            state = text
                .parse()
                .map_err(|_| OpError::Bug("a checkpoint without a state".to_owned()))?;
            done = checkpoint.step;
        }
        while done < steps {
            state = Digest::parts("toy/step", &[state.as_bytes(), &rate.to_be_bytes()]);
            done += 1;
            calls.count("step");
            std::thread::sleep(pause);
            ctx.metric(
                done,
                &[(
                    "loss",
                    1.0 / f64::from(u32::try_from(done).unwrap_or(u32::MAX)),
                )],
            );
            if ctx.checkpoints().due(done) || done == steps {
                ctx.checkpoints().save(done, |folder| {
                    fs::write(folder.join("state"), state.to_string())
                        .map_err(|error| OpError::failed(error.to_string(), "make room"))
                })?;
            }
            ctx.check_interrupted()?;
        }
        ctx.save_warm_start("steps")?;
        put(ctx, &state.to_string())
    })
}
