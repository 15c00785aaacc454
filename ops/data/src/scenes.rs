//! A generated world: pictures of shapes with exact captions and a known share of wrong texts.
//!
//! Deterministic from (seed, split, number). The splits draw from separate streams, so no held-out
//! picture is a training picture; the same attributes do come up in both. What a picture shows is
//! its truth, kept for measuring only.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};
use serde_json::{Value, json};

use crate::decode::Picture;
use crate::random::Random;

/// Colours of shapes with their RGB values.
const COLORS: [(&str, [f64; 3]); 6] = [
    ("red", [220.0, 40.0, 40.0]),
    ("green", [40.0, 180.0, 60.0]),
    ("blue", [50.0, 80.0, 220.0]),
    ("yellow", [230.0, 210.0, 50.0]),
    ("purple", [150.0, 50.0, 180.0]),
    ("orange", [240.0, 140.0, 30.0]),
];
/// Shapes that differ in every small part, so that patches of four pixels can tell them apart.
const SHAPES: [&str; 4] = ["ring", "square", "triangle", "cross"];
/// Sizes with their radius as a share of the picture's side.
const SIZES: [(&str, f64); 2] = [("small", 0.24), ("large", 0.36)];
/// Backgrounds with their grey value.
const BACKGROUNDS: [(&str, f64); 3] = [("white", 240.0), ("black", 20.0), ("gray", 128.0)];

/// How annotators write.
const HUMAN: [&str; 1] = ["a {size} {color} {shape} on a {background} background"];
/// How people on the web write, when they write about the picture at all.
const WEB: [&str; 4] = [
    "a {size} {color} {shape} on a {background} background",
    "there is a {size} {color} {shape} on {background}",
    "a {color} {shape} , {size} , in front of {background}",
    "picture of one {size} {color} {shape} over a {background} backdrop",
];
/// What web texts say when they say nothing about the picture.
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
    /// The shape's colour.
    pub color: &'static str,
    /// The shape.
    pub shape: &'static str,
    /// Its size.
    pub size: &'static str,
    /// What is behind it.
    pub background: &'static str,
}

/// How the texts of a split are made.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Texts {
    /// Written as on the web, in several ways; else as by an annotator, in one.
    pub web: bool,
    /// Share of texts that describe another scene.
    pub mismatched: f64,
    /// Share of texts that describe nothing.
    pub junk: f64,
}

/// A generated sample.
#[derive(Clone, PartialEq, Debug)]
pub struct Generated {
    /// Its key in the shard: `web-000042`.
    pub key: String,
    /// The picture as JPEG.
    pub jpeg: Vec<u8>,
    /// Its text, right or wrong.
    pub text: String,
    /// What the picture shows.
    pub truth: Value,
}

impl Scene {
    fn draw(random: &mut Random) -> Self {
        Self {
            color: random.pick(&COLORS).0,
            shape: *random.pick::<&'static str>(&SHAPES),
            size: random.pick(&SIZES).0,
            background: random.pick(&BACKGROUNDS).0,
        }
    }

    fn describe(&self, template: &str) -> String {
        template
            .replace("{color}", self.color)
            .replace("{shape}", self.shape)
            .replace("{size}", self.size)
            .replace("{background}", self.background)
    }

    /// What the picture shows, as it is stored with a sample.
    pub fn truth(&self) -> Value {
        json!({"color": self.color, "shape": self.shape, "size": self.size, "background": self.background})
    }

    /// The scene of a stored truth; none for a truth of another kind.
    pub fn of_truth(truth: &Value) -> Option<Self> {
        let word = |key: &str| truth.get(key).and_then(Value::as_str);
        let find = |word: Option<&str>, words: &[&'static str]| {
            words.iter().find(|known| Some(**known) == word).copied()
        };
        Some(Self {
            color: find(word("color"), &COLORS.map(|(name, _)| name))?,
            shape: find(word("shape"), &SHAPES)?,
            size: find(word("size"), &SIZES.map(|(name, _)| name))?,
            background: find(word("background"), &BACKGROUNDS.map(|(name, _)| name))?,
        })
    }

    /// Whether a text names all attributes of the scene and none that it does not have.
    pub fn matches(&self, text: &str) -> bool {
        let words: Vec<&str> = text.split_whitespace().collect();
        let only = |right: &str, all: &[&str]| {
            all.iter()
                .all(|word| words.contains(word) == (*word == right))
        };
        only(self.color, &COLORS.map(|(name, _)| name))
            && only(self.shape, &SHAPES)
            && only(self.size, &SIZES.map(|(name, _)| name))
            && only(self.background, &BACKGROUNDS.map(|(name, _)| name))
    }

    /// The picture, `side` x `side` pixels: the shape somewhere near the middle, everything a
    /// little noisy.
    fn render(&self, side: u32, random: &mut Random) -> Picture {
        let length = f64::from(side);
        let find = |table: &[(&str, f64)], name: &str| {
            table
                .iter()
                .find(|(known, _)| *known == name)
                .map_or(0.0, |(_, value)| *value)
        };
        let radius = find(&SIZES, self.size) * length + random.between(-0.02, 0.02) * length;
        let center = [
            0.5 + random.between(-0.05, 0.05),
            0.5 + random.between(-0.05, 0.05),
        ]
        .map(|part| part * length);
        let gray = find(&BACKGROUNDS, self.background);
        let base = COLORS
            .iter()
            .find(|(name, _)| *name == self.color)
            .map_or([0.0; 3], |(_, rgb)| *rgb);
        let color = base.map(|value| value + random.between(-14.0, 14.0));
        let mut rgb = Vec::with_capacity((side * side * 3) as usize);
        for y in 0..side {
            for x in 0..side {
                let cover = self.cover(f64::from(x) - center[0], f64::from(y) - center[1], radius);
                for channel in color {
                    let value = gray + (channel - gray) * cover + random.between(-10.0, 10.0);
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

    /// The share of a pixel that the shape covers, by nine samples; (x, y) is the pixel's corner
    /// from the shape's centre.
    fn cover(&self, x: f64, y: f64, radius: f64) -> f64 {
        let offsets = [1.0 / 6.0, 0.5, 5.0 / 6.0];
        let inside = offsets
            .iter()
            .flat_map(|dy| offsets.iter().map(move |dx| (x + dx, y + dy)));
        let hit = inside
            .filter(|(x, y)| self.inside(x / radius, y / radius))
            .count();
        hit as f64 / 9.0
    }

    /// Whether a point lies in the shape of radius 1.
    fn inside(&self, x: f64, y: f64) -> bool {
        let (ax, ay) = (x.abs(), y.abs());
        match self.shape {
            "ring" => (0.5..1.0).contains(&x.hypot(y)),
            "square" => ax < 0.85 && ay < 0.85,
            "triangle" => (-1.0..0.85).contains(&y) && ax < (y + 1.0) * 0.55,
            _ => (ax < 0.33 && ay < 1.0) || (ay < 0.33 && ax < 1.0),
        }
    }
}

/// Sample `number` of a split.
pub fn generate(seed: u64, split: &str, number: u64, side: u32, texts: Texts) -> Generated {
    let name = split
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
    let mut random = Random::new(&[seed, name, number]);
    let scene = Scene::draw(&mut random);
    let picture = scene.render(side, &mut random);
    let templates: &[&str] = if texts.web { &WEB } else { &HUMAN };
    let luck = random.unit();
    let text = if luck < texts.junk {
        (0..5)
            .map(|_| *random.pick(&JUNK))
            .collect::<Vec<_>>()
            .join(" ")
    } else {
        let mut described = scene;
        while luck < texts.junk + texts.mismatched && described == scene {
            described = Scene::draw(&mut random);
        }
        described.describe(random.pick::<&str>(templates))
    };
    Generated {
        key: format!("{split}-{number:06}"),
        jpeg: encode_jpeg(&picture),
        text,
        truth: scene.truth(),
    }
}

/// A picture as JPEG of quality 92.
///
/// # Panics
/// When the picture's bytes do not fit its size.
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

    const CLEAN: Texts = Texts {
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
        assert_eq!(blake3::hash(&one.jpeg).to_hex().as_str()[..16].len(), 16);
    }

    #[test]
    fn clean_texts_match_and_the_share_of_wrong_ones_is_as_asked() {
        let matching = |texts| {
            let one = |number| {
                let sample = generate(3, "web", number, 8, texts);
                Scene::of_truth(&sample.truth)
                    .unwrap()
                    .matches(&sample.text)
            };
            (0..1000).filter(|number| one(*number)).count()
        };
        assert_eq!(matching(CLEAN), 1000);
        assert_eq!(matching(Texts { web: true, ..CLEAN }), 1000);
        let noisy = matching(Texts {
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
