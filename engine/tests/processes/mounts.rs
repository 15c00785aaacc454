//! Caches on file systems that are really read-only, or really full: in a mount namespace of a
//! process. Where the machine does not allow
//! that, the tests are reported as ignored.

use std::fs;

use crate::child::TestFolder;

const GRAPH: &str =
    "a = upper(text(\"a\"))\nl = lines(\"lines.txt\")\ns = shout(l)\nj = join(a, show(s))\n";

const READ_ONLY: &str = "mount --bind \"$BLIP_FOLDER/cache\" \"$BLIP_FOLDER/cache\" \
    && mount -o remount,ro,bind \"$BLIP_FOLDER/cache\"";

const SMALL: &str =
    "mkdir \"$BLIP_FOLDER/cache\" && mount -t tmpfs -o size=6m tmpfs \"$BLIP_FOLDER/cache\"";

/// Readers work, verification finds corrupt files and leaves them where they are, a run that has
/// nothing to do succeeds, and one that has fails and says why.
pub(crate) fn a_read_only_cache_is_read() {
    for index in ["none", "sled"] {
        let folder = TestFolder::new(GRAPH, index);
        assert_eq!(folder.start("run").exit_code(), Some(0));
        let mut reader = folder.start_mounted("read", READ_ONLY);
        assert_eq!(reader.line("plan").unwrap(), "plan 6 of 6");
        assert_eq!(reader.line("log").unwrap(), "log 6");
        assert_eq!(reader.line("use").unwrap(), "use true");
        assert_eq!(reader.line("verify").unwrap(), "verify 6 0 0");
        assert_eq!(reader.line("ran").unwrap(), "ran Done 6");
        assert_eq!(reader.exit_code(), Some(0));
        nothing_is_recorded_and_nothing_new_runs(&folder);
        let object = crate::kills::files(&folder.cache().join("objects")).remove(0);
        fs::write(&object, "damaged").unwrap();
        let mut reader = folder.start_mounted("read", READ_ONLY);
        assert_eq!(
            reader.line("verify").unwrap(),
            "verify 6 1 0",
            "one is corrupt, and none is moved"
        );
        assert_eq!(reader.exit_code(), Some(0));
        assert_eq!(fs::read_to_string(&object).unwrap(), "damaged");
        assert_eq!(folder.start("run").exit_code(), Some(0));
    }
}

fn nothing_is_recorded_and_nothing_new_runs(folder: &TestFolder) {
    let cache = folder.cache();
    let note = format!(
        "warning the cache {} cannot be written: its results are used, and this run is not recorded",
        cache.display()
    );
    let before = crate::kills::files(&cache);
    let mut run = folder.start_mounted("run", READ_ONLY);
    assert_eq!(run.line("warning").unwrap(), note);
    assert_eq!(run.line("warning"), None, "one note");
    assert_eq!(run.exit_code(), Some(0));
    let text = "a = upper(text(\"a\"))\nb = upper(text(\"b\"))\n";
    let mut run = folder.start_text_mounted("run", text, READ_ONLY);
    let error = format!(
        "finished b/text Failed it has no result in the cache {}, which cannot be written",
        cache.display()
    );
    let ends: Vec<String> = std::iter::from_fn(|| run.line("finished")).collect();
    assert!(ends.contains(&error), "{ends:?}");
    assert!(
        ends.iter().any(|end| end.starts_with("finished a Reused")),
        "{ends:?}"
    );
    assert_eq!(run.exit_code(), Some(1));
    assert_eq!(crate::kills::files(&cache), before);
}

/// The error names the path, and when there is space again the next run uses what there is.
pub(crate) fn a_full_disk() {
    let folder = TestFolder::new("a = text(\"a\")\nbig = length(file(\"big.bin\"))\n", "none");
    fs::write(folder.path().join("big.bin"), vec![b'x'; 3 << 20]).unwrap();
    let mut run = folder.start_mounted("fill", SMALL);
    assert_eq!(run.line("finished").unwrap(), "finished a Ran");
    let mut ends = vec![run.line("finished").unwrap(), run.line("finished").unwrap()];
    ends.sort();
    assert_eq!(ends[0], "finished a Reused");
    let start = format!(
        "finished big/file Failed could not write {}/",
        folder.cache().join("tmp").display()
    );
    assert!(
        ends[1].starts_with(&start) && ends[1].ends_with(": No space left on device (os error 28)"),
        "{ends:?}"
    );
    let help = "help the disk is full: free some space and run again; finished results are kept";
    assert_eq!(run.line("help").unwrap(), help);
    assert_eq!(run.line("verify").unwrap(), "verify 0");
    let mut ends: Vec<String> = (0..3).map(|_| run.line("finished").unwrap()).collect();
    ends.sort();
    assert_eq!(
        ends,
        [
            "finished a Reused",
            "finished big Ran",
            "finished big/file Ran"
        ]
    );
    assert_eq!(run.line("verify").unwrap(), "verify 0");
    assert_eq!(run.exit_code(), Some(0));
}
