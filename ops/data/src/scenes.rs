//! Generated scenes: pictures of shapes with exact captions and a known share of wrong ones.
//!
//! Deterministic from (seed, split, number). Splits draw from separate random streams, so no
//! held-out picture is a training picture, though both have the same attributes. What a picture
//! shows is its ground truth, for evaluation only.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};
use serde_json::{Value, json};

use crate::decode::Picture;
use crate::rng::Rng;

/// Colours of shapes, in RGB.
const COLORS: [(&str, [f64; 3]); 6] = [
    ("red", [220.0, 40.0, 40.0]),
    ("green", [40.0, 180.0, 60.0]),
    ("blue", [50.0, 80.0, 220.0]),
    ("yellow", [230.0, 210.0, 50.0]),
    ("purple", [150.0, 50.0, 180.0]),
    ("orange", [240.0, 140.0, 30.0]),
];
/// Shapes that differ locally, so that a model with patches of four pixels can distinguish them.
const SHAPES: [&str; 4] = ["ring", "square", "triangle", "cross"];
/// Radii, as a share of the picture's side.
const SIZES: [(&str, f64); 2] = [("small", 0.24), ("large", 0.36)];
/// Grey values of backgrounds.
const BACKGROUNDS: [(&str, f64); 3] = [("white", 240.0), ("black", 20.0), ("gray", 128.0)];

/// Captions by annotators.
const HUMAN: [&str; 1] = ["a {size} {color} {shape} on a {background} background"];
/// Web captions that describe the picture.
const WEB: [&str; 4] = [
    "a {size} {color} {shape} on a {background} background",
    "there is a {size} {color} {shape} on {background}",
    "a {color} {shape} , {size} , in front of {background}",
    "picture of one {size} {color} {shape} over a {background} backdrop",
];
/// Words of web captions that do not describe the picture.
const JUNK: [&str; 20] = [
    "buy",
    "cheap",
    "shoes",
    "online",
    "free",
    "shipping",
    "img",
    "4021",
    "jpg",
    "best",
    "price",
    "sale",
    "click",
    "here",
    "stock",
    "photo",
    "vector",
    "download",
    "hd",
    "wallpaper",
];

/// What a picture shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scene {
    pub color: &'static str,
    pub shape: &'static str,
    pub size: &'static str,
    pub background: &'static str,
}

/// How the captions of a split are generated.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct CaptionStyle {
    /// Several templates, as on the web; else a single one, as by an annotator.
    pub web: bool,
    /// The share of captions that describe another scene.
    pub mismatched: f64,
    /// The share of captions that describe nothing.
    pub junk: f64,
}

/// A generated sample.
#[derive(Clone, PartialEq, Debug)]
pub struct Generated {
    /// The key in a shard: `web-000042`.
    pub key: String,
    pub jpeg: Vec<u8>,
    /// The caption, right or wrong.
    pub text: String,
    pub ground_truth: Value,
}

impl Scene {
    fn draw(rng: &mut Rng) -> Self {
        Self {
            color: rng.choose(&COLORS).0,
            shape: *rng.choose::<&'static str>(&SHAPES),
            size: rng.choose(&SIZES).0,
            background: rng.choose(&BACKGROUNDS).0,
        }
    }

    fn describe(&self, template: &str) -> String {
        template
            .replace("{color}", self.color)
            .replace("{shape}", self.shape)
            .replace("{size}", self.size)
            .replace("{background}", self.background)
    }

    /// The attributes, as they are stored with a sample.
    pub fn ground_truth(&self) -> Value {
        json!({
            "color": self.color,
            "shape": self.shape,
            "size": self.size,
            "background": self.background,
        })
    }

    /// The scene of stored attributes; `None` if these are not a scene's.
    pub fn from_ground_truth(ground_truth: &Value) -> Option<Self> {
        let find = |attribute: &str, names: &[&'static str]| {
            let value = ground_truth.get(attribute)?.as_str()?;
            names.iter().find(|name| **name == value).copied()
        };
        Some(Self {
            color: find("color", &names(&COLORS))?,
            shape: find("shape", &SHAPES)?,
            size: find("size", &names(&SIZES))?,
            background: find("background", &names(&BACKGROUNDS))?,
        })
    }

    /// Whether a text names all attributes of the scene and no others.
    pub fn matches(&self, text: &str) -> bool {
        let words: Vec<&str> = text.split_whitespace().collect();
        let names_only = |value: &str, names: &[&str]| {
            let mut names = names.iter();
            names.all(|name| words.contains(name) == (*name == value))
        };
        names_only(self.color, &names(&COLORS))
            && names_only(self.shape, &SHAPES)
            && names_only(self.size, &names(&SIZES))
            && names_only(self.background, &names(&BACKGROUNDS))
    }

    /// The picture, `side` x `side` pixels: the shape near the middle, with noise in position, size
    /// and colour.
    fn render(&self, side: u32, rng: &mut Rng) -> Picture {
        let length = f64::from(side);
        let radius = lookup(&SIZES, self.size) * length + rng.uniform_range(-0.02, 0.02) * length;
        let center = [
            0.5 + rng.uniform_range(-0.05, 0.05),
            0.5 + rng.uniform_range(-0.05, 0.05),
        ]
        .map(|part| part * length);
        let gray = lookup(&BACKGROUNDS, self.background);
        let color = lookup(&COLORS, self.color).map(|value| value + rng.uniform_range(-14.0, 14.0));
        let mut rgb = Vec::with_capacity((side * side * 3) as usize);
        for y in 0..side {
            for x in 0..side {
                let (dx, dy) = (f64::from(x) - center[0], f64::from(y) - center[1]);
                let coverage = self.coverage(dx, dy, radius);
                for channel in color {
                    let value = gray + (channel - gray) * coverage + rng.uniform_range(-10.0, 10.0);
                    rgb.push(value.clamp(0.0, 255.0).round() as u8);
                }
            }
        }
        Picture {
            width: side,
            height: side,
            rgb,
        }
    }

    /// The share of a pixel that the shape covers, by nine samples; (x, y) is the pixel's corner,
    /// relative to the shape's centre.
    fn coverage(&self, x: f64, y: f64, radius: f64) -> f64 {
        let offsets = [1.0 / 6.0, 0.5, 5.0 / 6.0];
        let mut inside = 0;
        for dy in offsets {
            for dx in offsets {
                let point = ((x + dx) / radius, (y + dy) / radius);
                inside += u8::from(self.contains(point));
            }
        }
        f64::from(inside) / 9.0
    }

    /// Whether a point is in the shape of radius 1 around the origin.
    fn contains(&self, (x, y): (f64, f64)) -> bool {
        let (ax, ay) = (x.abs(), y.abs());
        match self.shape {
            "ring" => (0.5..1.0).contains(&x.hypot(y)),
            "square" => ax < 0.85 && ay < 0.85,
            "triangle" => (-1.0..0.85).contains(&y) && ax < (y + 1.0) * 0.55,
            _ => (ax < 0.33 && ay < 1.0) || (ay < 0.33 && ax < 1.0),
        }
    }
}

fn names<T>(table: &[(&'static str, T)]) -> Vec<&'static str> {
    table.iter().map(|(name, _)| *name).collect()
}

fn lookup<T: Copy>(table: &[(&str, T)], name: &str) -> T {
    let entry = table.iter().find(|(known, _)| *known == name);
    entry.expect("a scene has known attributes").1
}

/// Sample `number` of a split.
pub fn generate(seed: u64, split: &str, number: u64, side: u32, style: CaptionStyle) -> Generated {
    let mut rng = Rng::new(&[seed, fnv1a(split), number]);
    let scene = Scene::draw(&mut rng);
    let picture = scene.render(side, &mut rng);
    let text = caption(&scene, style, &mut rng);
    Generated {
        key: format!("{split}-{number:06}"),
        jpeg: encode_jpeg(&picture),
        text,
        ground_truth: scene.ground_truth(),
    }
}

/// A caption of the scene, of another one, or of nothing, by the shares of `style`.
fn caption(scene: &Scene, style: CaptionStyle, rng: &mut Rng) -> String {
    let templates: &[&str] = if style.web { &WEB } else { &HUMAN };
    let draw = rng.uniform();
    if draw < style.junk {
        let words: Vec<&str> = (0..5).map(|_| *rng.choose(&JUNK)).collect();
        return words.join(" ");
    }
    let is_mismatched = draw < style.junk + style.mismatched;
    let mut described = *scene;
    while is_mismatched && described == *scene {
        described = Scene::draw(rng);
    }
    described.describe(rng.choose::<&str>(templates))
}

/// FNV-1a.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// Encodes a picture with quality 92.
///
/// # Panics
/// When the picture's bytes do not match its size.
pub fn encode_jpeg(picture: &Picture) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let encoder = JpegEncoder::new_with_quality(&mut bytes, 92);
    let written = encoder.write_image(
        &picture.rgb,
        picture.width,
        picture.height,
        ExtendedColorType::Rgb8,
    );
    written.expect("writing to memory works, and the picture has three bytes a pixel");
    bytes.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN: CaptionStyle = CaptionStyle {
        web: false,
        mismatched: 0.0,
        junk: 0.0,
    };

    #[test]
    fn a_sample_is_a_function_of_seed_split_and_number() {
        let one = generate(1, "web", 7, 32, CLEAN);
        assert_eq!(one, generate(1, "web", 7, 32, CLEAN));
        for other in [
            generate(2, "web", 7, 32, CLEAN),
            generate(1, "test", 7, 32, CLEAN),
            generate(1, "web", 8, 32, CLEAN),
        ] {
            assert_ne!(one.jpeg, other.jpeg);
        }
        assert_eq!(one.key, "web-000007");
    }

    #[test]
    fn clean_captions_match_and_the_share_of_wrong_ones_is_as_configured() {
        let is_matching = |number: u64, style| {
            let sample = generate(3, "web", number, 8, style);
            let scene = Scene::from_ground_truth(&sample.ground_truth).unwrap();
            scene.matches(&sample.text)
        };
        let matching = |style| {
            (0..1000)
                .filter(|number| is_matching(*number, style))
                .count()
        };
        assert_eq!(matching(CLEAN), 1000);
        assert_eq!(matching(CaptionStyle { web: true, ..CLEAN }), 1000);
        let noisy = matching(CaptionStyle {
            web: true,
            mismatched: 0.3,
            junk: 0.1,
        });
        assert!((550..650).contains(&noisy), "{noisy} of 1000 match");
    }

    #[test]
    fn a_text_with_a_wrong_or_missing_attribute_does_not_match() {
        let scene = Scene {
            color: "red",
            shape: "ring",
            size: "small",
            background: "white",
        };
        assert!(scene.matches("a small red ring on a white background"));
        for wrong in [
            "a small red ring",
            "a large red ring on a white background",
            "a small red ring on a white black background",
            "",
        ] {
            assert!(!scene.matches(wrong), "{wrong}");
        }
    }
}
