//! The engine embedded in a program: an op, a workflow, a run, its result. Run it twice: nothing
//! runs again.
//!
//! ```text
//! cargo run -p blip-engine --example embed
//! ```

use blip_engine::{
    Config, Engine, IndexKind, NumericEnv, Op, OpSet, Output, Resources, RunOptions, Workflow,
};
use blip_grammar::{Arg, Signature, Source, Type};

#[expect(clippy::print_stdout, reason = "an example shows its result")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let signature = Signature::stage("greet", Type::Named("Text"), "Greets.")
        .example("greet(\"you\")")
        .arg(Arg::required("name", Type::Str, "who"));
    let greet = Op::run(signature, 1, |ctx| {
        let text = format!("hello {}", ctx.args().string("name")?);
        Ok(Output::of(ctx.put(text.as_bytes())?))
    });
    let source = Source::new("embed", "param who = \"world\"\ngreeting = greet(who)\n")?;
    let workflow = Workflow::parse(&source, &OpSet::new().with(greet), &[])
        .map_err(|found| format!("{found:?}"))?;
    let engine = Engine::new(Config {
        cache: std::env::temp_dir().join("blip-embed"),
        base: std::env::current_dir()?,
        index: IndexKind::Memory,
        resources: Resources {
            cpu: 2,
            gpu: 0,
            memory: 1 << 30,
        },
        env: NumericEnv { fields: Vec::new() },
    });
    let summary = engine.run(&workflow, &RunOptions::default(), &mut [])?;
    let text = engine.read_output(&summary, "greeting")?;
    let text = String::from_utf8_lossy(&text);
    let status = summary.stages.first().map(|stage| stage.status);
    println!("{text} ({status:?})");
    Ok(())
}
