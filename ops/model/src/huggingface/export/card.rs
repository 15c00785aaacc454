//! The model card: how to use the model, where that differs from transformers' defaults, and the
//! model's provenance.

use super::Ancestor;
use crate::huggingface::{CheckpointKind, Class, Config};

pub(super) fn model_card(class: Class, config: &Config, lineage: &[Ancestor]) -> String {
    let task = match class {
        Class::ConditionalGeneration => "image-to-text",
        Class::ImageTextRetrieval | Class::QuestionAnswering => "zero-shot-image-classification",
    };
    let kind = CheckpointKind::Class(class);
    let mut card = format!(
        "---\nlibrary_name: transformers\npipeline_tag: {task}\ntags: [blip]\n---\n\n\
         # A BLIP model: `{}`\n\n\
         A {} of a `blip` workflow, after [BLIP](https://arxiv.org/abs/2201.12086). It {}.\n\n\
         ## Use\n\n```python\n{}```\n",
        class.name(),
        kind.noun(),
        kind.describe(),
        usage(class, config)
    );
    card.push_str("\n## Where it comes from\n\n");
    if lineage.is_empty() {
        card.push_str("Nothing is known of its making.\n");
    }
    for ancestor in lineage {
        card.push_str(&provenance(ancestor));
    }
    card
}

/// A list entry of Markdown: the call, key and digest, metrics.
fn provenance(ancestor: &Ancestor) -> String {
    let Ancestor {
        stage,
        op,
        args,
        key,
        digest,
        count,
        metrics,
    } = ancestor;
    let args: Vec<String> = args
        .iter()
        .map(|(name, value)| format!("{name} = {value}"))
        .collect();
    let args = args.join(", ");
    let mut entry = format!("- `{stage}` = `{op}({args})`\n  - key `{key}`, result `{digest}`");
    if let Some(count) = count {
        entry.push_str(&format!(", {count} items"));
    }
    entry.push('\n');
    for (name, value) in metrics {
        entry.push_str(&format!("  - {name}: {value}\n"));
    }
    entry
}

/// A Python example.
fn usage(class: Class, config: &Config) -> String {
    let name = class.name();
    let load = format!(
        "from transformers import {name}, BlipProcessor\n\n\
         model = {name}.from_pretrained(folder).eval()\n\
         processor = BlipProcessor.from_pretrained(folder)\n"
    );
    match class {
        Class::ConditionalGeneration => {
            let text = config.prompt.as_deref().map_or(String::new(), |prompt| {
                format!(", text=\"{}\"", prompt.trim_end())
            });
            format!(
                "{load}inputs = processor(images=image{text}, return_tensors=\"pt\")\n\
                 ids = model.generate(**inputs, num_beams=3, max_length=20, min_length=5)\n\
                 print(processor.decode(ids[0], skip_special_tokens=True))\n"
            )
        }
        Class::ImageTextRetrieval | Class::QuestionAnswering => format!(
            "{load}inputs = processor(images=image, text=caption, return_tensors=\"pt\")\n\
             # It was trained with [ENC] at the beginning of the text, where transformers leaves \
             [CLS].\n\
             inputs[\"input_ids\"][:, 0] = {}\n\
             match = model(**inputs).itm_score.softmax(-1)[0, 1]\n",
            config.med.vocab - 1
        ),
    }
}
