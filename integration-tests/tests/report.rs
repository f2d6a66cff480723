//! The page of `report --html`: read by a parser that follows the standard, and (`cargo xtask suite report`) by a browser.
//!
//! The fact a newcomer gets wrong: a substring search proves nothing about HTML; what counts is which elements a parser makes of it, so these tests look at the tree.

use html5ever::tendril::TendrilSink;
use integration_tests::Setup;
use integration_tests::tiny::{Image, TINY};
use markup5ever_rcdom::{Handle, NodeData, RcDom};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

/// Names that would do something if they were not escaped. A slash makes two of them directories.
const HOSTILE: [&[u8]; 6] = [
    b"<script>document.title='owned'</script>",
    b"\"><img src=x onerror=\"document.title='owned'\">",
    b"a&lt;b' style='color:red",
    b"new\nline",
    b"turned \xe2\x80\xaearound",
    b"caf\xe9",
];

/// The tiny image with a hostile copy of a program for each name.
fn hostile() -> Image {
    let image = Image::made(Setup::recompiler());
    for (i, name) in HOSTILE.iter().enumerate() {
        let path = image.at("root/bin").join(OsStr::from_bytes(name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Different contents, or they would be one file with several names.
        let mut program = fs::read(image.at("root/bin/moving")).unwrap();
        program.push(i as u8);
        fs::write(path, program).unwrap();
    }
    image
}

/// Every element's name with its attributes, and all text.
fn tree(html: &str) -> (Vec<(String, Vec<(String, String)>)>, String) {
    let dom = html5ever::parse_document(RcDom::default(), html5ever::ParseOpts::default()).one(html);
    let (mut elements, mut text) = (Vec::new(), String::new());
    let mut work: Vec<Handle> = vec![dom.document.clone()];
    while let Some(node) = work.pop() {
        match &node.data {
            NodeData::Element { name, attrs, .. } => {
                let attributes = attrs.borrow().iter().map(|a| (a.name.local.to_string(), a.value.to_string())).collect();
                elements.push((name.local.to_string(), attributes));
            }
            NodeData::Text { contents } => text.push_str(&contents.borrow()),
            _ => {}
        }
        work.extend(node.children.borrow().iter().rev().cloned());
    }
    assert!(dom.errors.borrow().is_empty(), "{:?}", dom.errors.borrow());
    (elements, text)
}

fn page(image: &Image, args: &[&str]) -> String {
    image.ok(&[&["report"], args, &["--html", "page.html"]].concat());
    fs::read_to_string(image.at("page.html")).unwrap()
}

/// Nothing that could run, load or reach anything.
fn assert_harmless(elements: &[(String, Vec<(String, String)>)]) {
    for (name, attributes) in elements {
        let known = "html head meta title style body header p h1 dl dt dd ul li b section h2 h3 table thead tbody tr th td br span meter code article s";
        assert!(known.split(' ').any(|k| k == name), "an element {name}");
        for (attribute, value) in attributes {
            let known = ["class", "id", "charset", "content", "name", "lang", "http-equiv", "colspan", "min", "max", "low", "high", "optimum", "value"];
            assert!(known.contains(&attribute.as_str()), "an attribute {attribute}={value}");
        }
    }
    let count = |wanted: &str| elements.iter().filter(|(name, _)| name == wanted).count();
    assert_eq!((count("style"), count("title"), count("body")), (1, 1, 1));
    let policy = elements.iter().flat_map(|(_, a)| a).find(|(name, value)| name == "content" && value.starts_with("default-src 'none'"));
    assert!(policy.is_some_and(|(_, value)| !value.contains("unsafe")), "{policy:?}");
}

#[test]
fn a_page_of_hostile_names_holds_them_as_text_only() {
    let image = hostile();
    let html = page(&image, &["--rootfs", "root", "--include", "/bin"]);
    let (elements, text) = tree(&html);
    assert_harmless(&elements);
    for shown in [
        "/bin/<script>document.title='owned'</script>",
        "/bin/\"><img src=x onerror=\"document.title='owned'\">",
        "/bin/a&lt;b' style='color:red",
        "/bin/new\\nline",
        "/bin/turned \\u{202e}around",
        "/bin/caf\\xe9its name is not UTF-8",
    ] {
        assert!(text.contains(shown), "{shown} is not in the text:\n{text}");
    }
    let attributes = elements.iter().flat_map(|(_, a)| a);
    assert!(!attributes.clone().any(|(_, value)| value.contains("owned") || value.contains("red")), "names stand in no attribute");
}

#[test]
fn a_page_of_a_release_says_what_is_new_and_is_the_same_twice() {
    let image = hostile();
    image.build("old", &["--serial", "1"]);
    // A program that connects, by a call of its own; one that is gone; one that changed.
    let connects = TINY.replace("$60,%eax\n xor", "$42,%eax\n syscall\n mov $60,%eax\n xor");
    fs::write(image.at("connects.s"), connects).unwrap();
    let gcc = Command::new("gcc").args(["-nostdlib", "-static", "-static-pie", "-o"]).arg(image.at("root/bin/moving")).arg(image.at("connects.s")).status();
    assert!(gcc.unwrap().success());
    fs::remove_file(image.at("root/bin/fixed")).unwrap();
    fs::write(image.at("policy.json"), r#"{"scripts": "listed", "inline": "deny"}"#).unwrap();
    let cost = image.build("new", &["--serial", "2", "--json", "--policy", "policy.json"]);
    fs::write(image.at("cost.json"), &cost).unwrap();
    let args = ["new/manifest.json", "--previous", "old/manifest.json"];
    let html = page(&image, &args);
    assert_eq!(page(&image, &args), html);
    let (elements, text) = tree(&html);
    assert_harmless(&elements);
    assert!(text.contains("Newly can connect: /bin/moving"), "{text}");
    assert!(!text.contains("Newly can listen") && !text.contains("The serial did not grow"), "{text}");
    for wanted in ["0 files added, 1 changed, 1 removed", "Removed files", "/bin/fixed", "Signed by", "k (claimed", "container.wasm", ".resumable.so"] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    let rules = "Scripts before: any that a program of this release runs; program text given to interpreters runs. Now: the listed ones only; program text given to interpreters is refused.";
    assert!(text.contains(rules), "{text}");
    assert!(!text.contains("What the build cost"));
    let (_, text) = tree(&page(&image, &[&args[..], &["--cost", "cost.json"]].concat()));
    assert!(text.contains("What the build cost") && text.contains("assemble"), "{text}");
    // The other way round nothing is newly possible, and the serial goes back.
    let (_, text) = tree(&page(&image, &["old/manifest.json", "--previous", "new/manifest.json"]));
    assert!(!text.contains("Newly can connect") && text.contains("The serial did not grow (2 before, 1 now)"), "{text}");
}

#[test]
fn a_release_that_an_image_carries_has_the_page_that_it_has_on_disk() {
    let image = Image::made(Setup::recompiler());
    image.build("old", &["--serial", "1", "--tier", "fast"]);
    fs::remove_file(image.at("root/bin/fixed")).unwrap();
    image.build("new", &["--serial", "2", "--tier", "fast"]);
    image.ok(&["push", "old/manifest.json", "oci:shipped:old", "--image", "./root"]);
    let on_disk = page(&image, &["new/manifest.json", "--previous", "old/manifest.json"]);
    assert!(tree(&on_disk).1.contains("0 files added, 0 changed, 1 removed"), "{on_disk}");
    for form in ["image", "artifact"] {
        image.ok(&["push", "new/manifest.json", "oci:shipped:new", "--image", "./root", "--form", form]);
        assert_eq!(page(&image, &["--image", "oci:shipped:new", "--previous", "oci:shipped:old"]), on_disk, "{form}");
    }
    // What was pushed since is seen, under the same name.
    image.ok(&["push", "old/manifest.json", "oci:shipped:new", "--image", "./root"]);
    assert_eq!(page(&image, &["--image", "oci:shipped:new"]), page(&image, &["old/manifest.json"]));
    assert!(image.refused(&["report", "--image", "oci:shipped:new", "--json"]).contains("with --include, or its release's page with --html alone"));
    let out = image.run(&["report", "--image", "oci:shipped:none", "--html", "none.html"]);
    let text = String::from_utf8(out.stderr).unwrap();
    assert!(!out.status.success() && text.starts_with("vkernel-image: ") && text.lines().count() == 1, "{text}");
    assert!(!image.at("none.html").exists());
}

/// Two bytes of fourteen are an instruction that nobody translates (`mov ss, edi`).
const GAP: &str = ".globl _start\n.type _start,@function\n_start:\n cmp $9,%edi\n jne 1f\n mov %edi,%ss\n1: mov $60,%eax\n syscall\n.size _start,.-_start\n.section .note.GNU-stack,\"\",@progbits\n";

#[test]
fn a_page_names_what_was_left_out_and_why_and_how_much_of_the_rest_is_translated() {
    let image = Image::made(Setup::recompiler());
    let (elements, text) = tree(&page(&image, &["--rootfs", "root", "--include", "/bin"]));
    assert_harmless(&elements);
    for wanted in ["100.000 %of the code translated", "0instructions not translated", "0files left out", "Nothing was left out.", "/bin/moving 100.000 %21900"] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    // A program of another processor, one with an engine that makes code, and one that is not translated whole.
    let mut arm = fs::read(image.at("root/bin/moving")).unwrap();
    arm[18] = 183;
    fs::write(image.at("root/bin/arm"), arm).unwrap();
    for (name, source) in [
        ("gap", GAP.to_owned()),
        ("engine", TINY.replace("f:", "_ZN2v88internal5Flush:\nf:").replace("f,@function", "f,@function\n.globl _ZN2v88internal5Flush\n.type _ZN2v88internal5Flush,@function")),
    ] {
        fs::write(image.at("p.s"), source).unwrap();
        let gcc = Command::new("gcc").args(["-nostdlib", "-static-pie", "-o"]).arg(image.at("root/bin").join(name)).arg(image.at("p.s")).status();
        assert!(gcc.unwrap().success());
    }
    image.build("out", &["--tier", "fast"]);
    for args in [&["out/manifest.json"][..], &["--rootfs", "root", "--include", "/bin"]] {
        let (elements, text) = tree(&page(&image, args));
        assert_harmless(&elements);
        assert!(text.contains("2files left out") && text.contains("1instructions not translated"), "{text}");
        // 57 bytes of code, of which 55 are translated; one function, fourteen bytes, one gap.
        assert!(text.contains("/bin/gap 85.714 %11410") && text.contains("/bin/moving 100.000 %21900"), "{text}");
        let part = text.split("Left out").nth(1).unwrap().split("Sizes").next().unwrap();
        for (path, reason) in [("/bin/arm", "is an aarch64 program"), ("/bin/engine", "jit: /bin/engine contains V8")] {
            assert!(part.contains(&format!("{path}{reason}")), "{path} {reason}: {part}");
        }
        for row in image.manifest("out")["omitted"].as_array().unwrap() {
            let words = ["path", "reason", "digest"].map(|key| row[key].as_str().unwrap());
            assert!(part.contains(&words.concat()), "{words:?}: {part}");
        }
        // What is left out stands nowhere else, least of all in the inventory.
        assert_eq!(text.matches("/bin/arm").count(), 1, "{text}");
    }
}

#[test]
fn what_a_release_does_not_allow_is_not_newly_possible() {
    let image = Image::made(Setup::recompiler());
    image.build("old", &["--serial", "1"]);
    fs::write(image.at("connects.s"), TINY.replace("$60,%eax\n xor", "$42,%eax\n syscall\n mov $60,%eax\n xor")).unwrap();
    let gcc = Command::new("gcc").args(["-nostdlib", "-static", "-static-pie", "-o"]).arg(image.at("root/bin/moving")).arg(image.at("connects.s")).status();
    assert!(gcc.unwrap().success());
    fs::write(image.at("policy.json"), r#"{"default_syscalls":["exit","exit_group"]}"#).unwrap();
    image.build("new", &["--serial", "2", "--policy", "policy.json"]);
    let (elements, text) = tree(&page(&image, &["new/manifest.json", "--previous", "old/manifest.json"]));
    assert!(!text.contains("Newly can"), "{text}");
    assert!(elements.iter().any(|(name, _)| name == "s"), "the call that the code makes is struck out");
}

#[test]
fn libraries_are_shared_by_the_same_programs_in_image_and_release() {
    let image = Image::made(Setup::recompiler());
    let gcc = |args: &[&str]| assert!(Command::new("gcc").args(args).current_dir(image.dir.path()).status().unwrap().success(), "{args:?}");
    fs::write(image.at("lib.s"), ".globl g\n.type g,@function\ng: ret\n.size g,.-g\n.section .note.GNU-stack,\"\",@progbits\n").unwrap();
    fs::create_dir_all(image.at("root/lib64")).unwrap();
    fs::create_dir_all(image.at("root/usr/lib")).unwrap();
    fs::copy("/lib64/ld-linux-x86-64.so.2", image.at("root/lib64/ld-linux-x86-64.so.2")).unwrap();
    gcc(&["-nostdlib", "-shared", "-Wl,-soname,libshared.so.1", "-o", "root/usr/lib/libshared.so.1", "lib.s"]);
    fs::write(image.at("uses.s"), TINY.replace("call f\n", "call f\n call g@PLT\n")).unwrap();
    gcc(&["-nostdlib", "-pie", "-o", "root/bin/uses", "uses.s", "root/usr/lib/libshared.so.1"]);
    let shared = |text: &str| {
        let part = text.split("Libraries and who shares them").nth(1).unwrap().split("Left out").next().unwrap().to_owned();
        part.split("/usr/lib/libshared.so.1").nth(1).unwrap().to_owned()
    };
    let (_, from_image) = tree(&page(&image, &["--rootfs", "root", "--include", "/bin"]));
    assert_eq!(shared(&from_image), "1/bin/uses", "{from_image}");
    image.build("out", &["--tier", "fast"]);
    let (_, from_release) = tree(&page(&image, &["out/manifest.json"]));
    assert_eq!(shared(&from_release), "1/bin/uses", "{from_release}");
    fs::remove_file(image.at("out/container.wasm")).unwrap();
    let (_, alone) = tree(&page(&image, &["out/manifest.json"]));
    assert!(alone.contains("Not known: the megabinary is not beside the manifest"), "{alone}");
}

#[test]
fn bad_input_of_a_report_is_one_line_and_writes_no_page() {
    let image = Image::made(Setup::recompiler());
    image.build("out", &["--tier", "fast"]);
    fs::write(image.at("broken.json"), "{}").unwrap();
    let refused = |args: &[&str]| image.refused(&[&["report"], args, &["--html", "none.html"]].concat());
    assert!(refused(&["broken.json"]).contains("broken.json: at .: missing field"), "{}", refused(&["broken.json"]));
    assert!(refused(&["out/manifest.json", "--previous", "nowhere.json"]).contains("cannot read manifest nowhere.json"));
    assert!(refused(&["out/manifest.json", "--cost", "broken.json"]).contains("is no cost file"));
    let wasm = fs::read(image.at("out/container.wasm")).unwrap();
    fs::write(image.at("out/container.wasm"), &wasm[..wasm.len() - 1]).unwrap();
    assert!(refused(&["out/manifest.json"]).contains("the manifest says"));
    assert!(!image.at("none.html").exists());
    fs::write(image.at("out/container.wasm"), &wasm).unwrap();
    image.ok(&["report", "out/manifest.json", "--html", "none.html"]);
}

/// Pixels of the colour that only the style sheet gives (the line below the title).
fn accented(image: &Image, html: &str) -> (String, usize) {
    fs::write(image.at("shown.html"), html).unwrap();
    let chromium = |what: &str| {
        let mut c = Command::new("timeout");
        c.args(["-k", "5", "120", "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1400,3000"]);
        c.arg(format!("--user-data-dir={}", image.at("profile").display())).arg(what).arg(format!("file://{}", image.at("shown.html").display()));
        let out = c.current_dir(image.dir.path()).env("HOME", image.dir.path()).output().expect("timeout starts");
        assert!(out.status.success(), "{what}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    let dom = chromium("--dump-dom");
    chromium("--screenshot=page.png");
    let mut reader = png::Decoder::new(std::io::BufReader::new(fs::File::open(image.at("page.png")).unwrap())).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!((info.width, info.height, info.bit_depth), (1400, 3000, png::BitDepth::Eight));
    let bytes = info.color_type.samples();
    (dom, pixels.chunks_exact(bytes).filter(|p| p[..3] == [0x14, 0x50, 0x7d]).count())
}

#[test]
#[ignore = "needs chromium, 124 MB to download: cargo xtask suite report"]
fn a_browser_shows_the_page_with_its_style_and_runs_nothing_in_it() {
    let image = hostile();
    image.build("out", &["--name", "shop/<b>frontend</b>"]);
    let html = page(&image, &["out/manifest.json"]);
    let (dom, accent) = accented(&image, &html);
    let (elements, text) = tree(&dom);
    assert_harmless(&elements);
    assert!(text.contains("vkernel report: shop/<b>frontend</b>") && dom.contains("<title>vkernel report: shop/&lt;b&gt;"), "the title is the page's own");
    assert!(accent > 1000, "{accent} pixels have the colour of the style sheet");
    // One byte more in the style sheet, and the policy forbids all of it: the hash is looked at. A script of a page without escaping is forbidden, too.
    let (dom, accent) = accented(&image, &html.replace("<style>", "<style> ").replace("</body>", "<script>document.title='owned'</script></body>"));
    assert!(accent == 0 && !dom.contains("<title>owned"), "{accent} pixels");
    // Without the policy the same page is owned: the test can see it.
    let open = html.replace("http-equiv=\"Content-Security-Policy\"", "name=\"x\"").replace("</body>", "<script>document.title='owned'</script></body>");
    assert!(accented(&image, &open).0.contains("<title>owned"));
}
