//! Steps in WebAssembly text, so that these tests need no toolchain for guests: a core module with the allocator, the
//! description and the answers that every step has, around a body of the test's own. Nothing here runs anything.

use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The parts of WASI that guests of these tests import. An import may name less than the host offers.
const WASI: &str = r#"
    package test:guest;

    package wasi:io@0.2.6 {
        interface poll {
            resource pollable {
                block: func();
            }
        }
        interface error {
            resource error;
        }
        interface streams {
            use error.{error};
            variant stream-error { last-operation-failed(error), closed }
            resource output-stream {
                blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>;
            }
        }
    }
    package wasi:clocks@0.2.6 {
        interface monotonic-clock {
            use wasi:io/poll@0.2.6.{pollable};
            now: func() -> u64;
            subscribe-duration: func(when: u64) -> pollable;
        }
        interface wall-clock {
            record datetime { seconds: u64, nanoseconds: u32 }
            now: func() -> datetime;
        }
    }
    package wasi:random@0.2.6 {
        interface random {
            get-random-u64: func() -> u64;
        }
    }
    package wasi:cli@0.2.6 {
        interface stdout {
            use wasi:io/streams@0.2.6.{output-stream};
            get-stdout: func() -> output-stream;
        }
        interface exit {
            exit: func(status: result);
        }
        interface environment {
            get-environment: func() -> list<tuple<string, string>>;
        }
    }
    package wasi:random@0.3.0 {
        interface random {
            get-random-u64: func() -> u64;
        }
    }
    package test:strange@1.0.0 {
        interface one { f: func(); }
        interface two { f: func(); }
    }

    world guest {
        include downbeat:step/plugin@0.1.0;
        import wasi:clocks/monotonic-clock@0.2.6;
        import wasi:clocks/wall-clock@0.2.6;
        import wasi:random/random@0.2.6;
        import wasi:cli/stdout@0.2.6;
        import wasi:cli/exit@0.2.6;
        import wasi:cli/environment@0.2.6;
        import wasi:random/random@0.3.0;
        import test:strange/one@1.0.0;
        import test:strange/two@1.0.0;
    }

    world no-step {
        import downbeat:step/log@0.1.0;
        export test:strange/one@1.0.0;
    }
"#;

/// The core modules' names of the interfaces that bodies import.
pub(crate) const LOG: &str = r#"(import "downbeat:step/log@0.1.0" "write" (func $log (param i32 i32 i32)))"#;

/// Where the result of an import that returns more than one value is put.
pub(crate) const RESULT: u32 = 768;

/// A step to be written.
pub(crate) struct Guest {
    imports: String,
    texts: Vec<(String, String)>,
    functions: String,
    describe: String,
    schema: String,
    run: String,
    realloc: String,
}

impl Guest {
    /// A step whose `run` is `body`: WebAssembly text that leaves an answer on the stack, as `$ok` and `$fail` make it from
    /// a text's address and length. The locals are the flat parameters: `$input`, `$input_len`, `$key`, `$key_len`.
    pub(crate) fn new(body: &str) -> Guest {
        Guest {
            imports: String::new(),
            texts: Vec::new(),
            functions: String::new(),
            describe: "i32.const 64".into(),
            schema: "{}".into(),
            run: body.into(),
            realloc: REALLOC.into(),
        }
    }

    pub(crate) fn import(mut self, import: &str) -> Guest {
        self.imports.push_str(import);
        self
    }

    /// A constant: the globals `$name` (address) and `$name_len`.
    pub(crate) fn text(mut self, name: &str, text: &str) -> Guest {
        self.texts.push((name.into(), text.into()));
        self
    }

    pub(crate) fn functions(mut self, functions: &str) -> Guest {
        self.functions.push_str(functions);
        self
    }

    pub(crate) fn describe(mut self, body: &str) -> Guest {
        self.describe = body.into();
        self
    }

    pub(crate) fn schema(mut self, schema: &str) -> Guest {
        self.schema = schema.into();
        self
    }

    /// Another body of the function that the host calls for room for what it hands over.
    pub(crate) fn realloc(mut self, body: &str) -> Guest {
        self.realloc = format!(r#"(func $alloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) {body})"#);
        self
    }

    /// The component's bytes.
    pub(crate) fn build(&self) -> Vec<u8> {
        component(&self.module(), "guest")
    }

    fn module(&self) -> String {
        // From 64: the record `description`. From 1024: its texts, then the test's.
        let mut data = Vec::new();
        let mut place = |text: &str| {
            let at = 1024 + data.len() as u32;
            data.extend_from_slice(text.as_bytes());
            (at, text.len() as u32)
        };
        let mut description = Vec::new();
        for text in ["guest", "0.1.0", "Made for a test.", &self.schema, "{}"] {
            let (at, len) = place(text);
            description.extend([at.to_le_bytes(), len.to_le_bytes()].concat());
        }
        description.extend([0; 8]); // no wants
        let mut globals = String::new();
        for (name, text) in &self.texts {
            let (at, len) = place(text);
            globals += &format!("(global ${name} i32 (i32.const {at})) (global ${name}_len i32 (i32.const {len}))");
        }
        let heap = (1024 + data.len()).next_multiple_of(4096);
        format!(
            r#"(module
                {imports}
                (memory (export "memory") {pages})
                (global $heap (mut i32) (i32.const {heap}))
                {globals}
                (data (i32.const 64) "{description}")
                (data (i32.const 1024) "{data}")
                {realloc}
                (func $ok (param $at i32) (param $len i32) (result i32)
                    (i32.store8 (i32.const 512) (i32.const 0))
                    (i32.store (i32.const 520) (local.get $at))
                    (i32.store (i32.const 524) (local.get $len))
                    (i32.const 512))
                (func $fail (param $case i32) (param $at i32) (param $len i32) (result i32)
                    (i32.store8 (i32.const 512) (i32.const 1))
                    (i32.store8 (i32.const 520) (local.get $case))
                    (i32.store (i32.const 528) (local.get $at))
                    (i32.store (i32.const 532) (local.get $len))
                    (i32.const 512))
                {functions}
                (func $describe (export "downbeat:step/step@0.1.0#describe") (result i32) {describe})
                (func $run (export "downbeat:step/step@0.1.0#run")
                    (param i32 i32 i32 i32 i32 i32 i32) (param $key i32) (param $key_len i32) (param i32 i64)
                    (param $input i32) (param $input_len i32) (result i32)
                    {run}))"#,
            imports = self.imports,
            pages = heap / 65536 + 1,
            realloc = self.realloc,
            description = escape(&description),
            data = escape(&data),
            functions = self.functions,
            describe = self.describe,
            run = self.run,
        )
    }
}

/// Only ever allocates, and grows the memory as needed.
const REALLOC: &str = r#"
    (func $alloc (export "cabi_realloc") (param i32 i32) (param $align i32) (param $size i32) (result i32)
        (local $at i32) (local $missing i32)
        (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
        (global.set $heap (i32.add (local.get $at) (local.get $size)))
        (local.set $missing (i32.sub
            (i32.shr_u (i32.add (global.get $heap) (i32.const 65535)) (i32.const 16)) (memory.size)))
        (if (i32.gt_s (local.get $missing) (i32.const 0))
            (then (if (i32.eq (memory.grow (local.get $missing)) (i32.const -1)) (then unreachable))))
        (local.get $at))"#;

fn escape(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\{byte:02x}")).collect()
}

/// A component from a core module's text.
pub(crate) fn component(module: &str, world: &str) -> Vec<u8> {
    let mut module = wat::parse_str(module).unwrap_or_else(|error| panic!("{error}"));
    let mut resolve = Resolve::default();
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
    resolve.push_dir(&wit).unwrap();
    let package = resolve.push_str("guest.wit", WASI).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
}

/// Answers with its input.
pub(crate) fn echo() -> Guest {
    Guest::new("(call $ok (local.get $input) (local.get $input_len))")
}

/// Runs the shell script that its input, a JSON string without escapes, holds; answers with what it wrote to standard
/// output. Fails with the hint of a refusal, or with the text of another error; a program that timed out is a transient
/// failure whose message is what it wrote.
pub(crate) fn shell(options: Shell) -> Guest {
    let timeout =
        options.timeout_ms.map_or("(i32.const 0) (i64.const 0)".into(), |ms| format!("(i32.const 1) (i64.const {ms})"));
    let body = format!(
        r#"
        (i32.store (i32.const 640) (global.get $c)) (i32.store (i32.const 644) (global.get $c_len))
        (i32.store (i32.const 648) (i32.add (local.get $input) (i32.const 1)))
        (i32.store (i32.const 652) (i32.sub (local.get $input_len) (i32.const 2)))
        (i32.store (i32.const 660) (global.get $variable)) (i32.store (i32.const 664) (global.get $variable_len))
        (i32.store (i32.const 668) (global.get $value)) (i32.store (i32.const 672) (global.get $value_len))
        (call $process
            (global.get $program) (global.get $program_len)
            (i32.const 640) (i32.const 2)
            (i32.const 660) (i32.const {variables})
            (i32.const 0) (i32.const 0) (i32.const 0)
            (global.get $stdin) (global.get $stdin_len)
            {timeout}
            (i32.const {log})
            (i32.const {RESULT}))
        (if (result i32) (i32.eqz (i32.load8_u (i32.const {RESULT})))
            (then (call $ok (i32.load (i32.const {stdout})) (i32.load (i32.const {stdout_len}))))
            (else
                (if (result i32) (i32.eqz (i32.load8_u (i32.const {case})))
                    (then (call $fail (i32.const 2) (i32.load (i32.const {hint})) (i32.load (i32.const {hint_len}))))
                    (else
                        (if (result i32) (i32.eq (i32.load8_u (i32.const {case})) (i32.const 2))
                            (then (call $fail (i32.const 1) (i32.load (i32.const {late})) (i32.load (i32.const {late_len}))))
                            (else (call $fail (i32.const 2)
                                (i32.load (i32.const {text})) (i32.load (i32.const {text_len})))))))))"#,
        variables = u32::from(!options.variable.is_empty()),
        log = u32::from(options.log_output),
        // result: case 0, payload from 8. completed: exit 8, stdout 16; error: case 8, payload from 16.
        stdout = RESULT + 16,
        stdout_len = RESULT + 20,
        case = RESULT + 8,
        hint = RESULT + 32,
        hint_len = RESULT + 36,
        text = RESULT + 16,
        text_len = RESULT + 20,
        // completed inside an error: from 16, its stdout from 24.
        late = RESULT + 24,
        late_len = RESULT + 28,
    );
    Guest::new(&body)
        .import(
            r#"(import "downbeat:step/process@0.1.0" "run" (func $process
                (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i64 i32 i32)))"#,
        )
        .text("program", options.program)
        .text("c", "-c")
        .text("stdin", options.stdin)
        .text("variable", options.variable)
        .text("value", "value")
}

/// How [`shell`] runs its script.
pub(crate) struct Shell {
    pub(crate) program: &'static str,
    pub(crate) stdin: &'static str,
    /// A variable to set to `value`; none if empty.
    pub(crate) variable: &'static str,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) log_output: bool,
}

impl Default for Shell {
    fn default() -> Shell {
        Shell { program: "sh", stdin: "", variable: "", timeout_ms: None, log_output: false }
    }
}
