//! Every model shape and every way of decoding captions, as a workflow names them.

use crate::world::{World, scenes};

#[test]
fn every_shape_gives_another_net() {
    let world = World::new();
    world.shard_of("web.tar", &scenes("web", 3));
    let vision = [
        "vit.tiny(image = 32)",
        "vit.base(image = 224)",
        "vit.large(image = 384)",
        "vit.custom(image = 64, patch = 8, width = 192, depth = 6, heads = 3)",
        "resnet50(image = 224)",
    ];
    let text = [
        "bert.tiny()",
        "bert.base()",
        "bert.custom(width = 192, depth = 4, heads = 3)",
    ];
    let mut workflow =
        "web = read.webdataset(\"web.tar\")\nvocab = learn.wordpiece(web, size = 50)\n".to_owned();
    for (row, vision) in vision.iter().enumerate() {
        for (column, text) in text.iter().enumerate() {
            workflow +=
                &format!("net_{row}_{column} = med(vision = {vision}, text = {text}, vocab)\n");
        }
    }
    let summary = world.done(&workflow);
    let nets = summary
        .stages
        .iter()
        .filter(|end| end.ty == "Net")
        .filter_map(|end| end.output);
    assert_eq!(
        nets.collect::<std::collections::BTreeSet<_>>().len(),
        vision.len() * text.len()
    );
}

#[test]
fn every_way_of_decoding_is_accepted() {
    let world = World::new();
    for decode in ["greedy()", "beam(beams = 5)", "nucleus(top_p = 0.9)"] {
        world.workflow(&format!(
            "web = read.webdataset(\"web.tar\")\nnet = med(vit.tiny(), bert.tiny(), \
             read.wordpiece(\"vocab.txt\"))\n\
             captioner = finetune_captioner(pretrain(net, web, epochs = 1, seed = 1), web, epochs \
             = 1, seed = 1)\n\
             synthetic = caption(captioner, web, decode = {decode}, seed = 1)\n"
        ));
    }
}
