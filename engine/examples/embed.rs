//! The engine in somebody else's program: an own op, a workflow, a run, its result. Run it twice: nothing runs again.
//!
//! ```text
//! cargo run -p blip-engine --example embed
//! ```

use std::sync::Arc;

use blip_engine::{Body, Config, Engine, IndexKind, NumericEnv, Op, OpSet, Output, Resources, RunOptions, Workflow};
use blip_grammar::{Arg, Default, Kind, Signature, Source, Type};

#[expect(clippy::print_stdout, reason = "an example shows its result")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = Arg {
        name: "name",
        ty: Type::Str,
        default: Default::Required,
        range: None,
        variadic: false,
        neutral: false,
        doc: "who",
    };
    let greet = Op {
        signature: Signature {
            name: "greet",
            kind: Kind::Stage,
            doc: "Greets.",
            example: "greet(\"you\")",
            args: vec![name],
            output: Type::Named("Text"),
        },
        version: 1,
        numeric: false,
        sources: None,
        body: Body::Run(Arc::new(|ctx| {
            Ok(Output::of(ctx.put(format!("hello {}", ctx.args().text("name")?).as_bytes())?))
        })),
    };
    let ops = OpSet::new().with(greet);
    let source = Source::new("embed", "param who = \"world\"\ngreeting = greet(who)\n")?;
    let workflow = Workflow::parse(&source, &ops, &[]).map_err(|found| format!("{found:?}"))?;
    let engine = Engine::new(Config {
        cache: std::env::temp_dir().join("blip-embed"),
        base: std::env::current_dir()?,
        index: IndexKind::Memory,
        resources: Resources { cpu: 2, gpu: 0, memory: 1 << 30 },
        env: NumericEnv { fields: Vec::new() },
    });
    let summary = engine.run(&workflow, &RunOptions::default(), &mut [])?;
    let text = engine.read_output(&summary, "greeting")?;
    println!("{} ({:?})", String::from_utf8_lossy(&text), summary.stages.first().map(|stage| stage.status));
    Ok(())
}
