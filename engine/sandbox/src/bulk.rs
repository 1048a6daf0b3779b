//! How much work a component is for the compiler, found out before the compiler is asked: the compiler's time and memory
//! follow from the code alone, it can't be interrupted, and what it takes is the engine's own. One pass over the code,
//! some 20 ms for each MiB, and only when there is no compiled code in the cache.
//!
//! Nothing here validates: what the compiler refuses anyway may pass. And nothing here is about running: what an instance
//! may take is `meter.rs`.

use wasmparser::{BinaryReaderError, BlockType, Encoding, FunctionBody, Operator, Parser, Payload};

/// Functions of all of a component's modules. Each takes 6 KiB until all are compiled, however short (measured: 250,000
/// empty ones, 1.4 GiB). With some hundred bytes for each, as compilers write them, this many fill the 64 MiB that a
/// component may have.
const FUNCTIONS_MAX: u64 = 100_000;

/// Bytes of one function's code. The compiler holds all of a function at once, on each processor one: from 0.2 KiB for each
/// byte (measured: loads and sums) to 0.5 KiB (calls of the host). Interpreter loops, the longest functions that people
/// compile, have a tenth of it.
const FUNCTION_MAX: u64 = 1 << 20;

/// One function's locals (with its parameters) times its blocks. A compiler that turns locals into values may have to join
/// each local at each block (measured: 2,000 locals changed in 2,000 loops, 0.4 GiB). Interpreter loops have some hundred
/// locals and some thousand blocks.
const JOINS_MAX: u64 = 4_000_000;

/// Values that one function gives, or that one block takes or gives. The canonical ABI gives one; few languages return more
/// than a pair.
const VALUES_MAX: u64 = 16;

/// Values that the calls, blocks and branches of one function hand over, where the module hands over more than one at a
/// time: two bytes of code then stand for many values. Each takes some KiB (measured: 50,000 calls that give 16, 0.7 GiB).
const TRANSFERS_MAX: u64 = 250_000;

/// How many times the most of one function all functions together may have. One such function keeps the compiler busy for
/// many seconds, and it goes on with the others when nobody waits for it any more.
const ALL: u64 = 16;

/// Why a component is not handed to the compiler.
#[derive(Debug, PartialEq)]
pub(crate) enum Bulk {
    /// It can't even be read.
    Malformed(String),
    /// It has more of something than a component may have.
    TooMuch {
        /// Of what.
        what: &'static str,
        found: u64,
        max: u64,
    },
}

impl From<BinaryReaderError> for Bulk {
    fn from(error: BinaryReaderError) -> Bulk {
        Bulk::Malformed(error.to_string())
    }
}

/// Looks through all modules of a component, nested components included.
pub(crate) fn check(component: &[u8]) -> Result<(), Bulk> {
    let mut sum = Sum::default();
    let mut module = Module::default();
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            // Modules do not hold modules: each is over before the next begins.
            Payload::Version { encoding: Encoding::Module, .. } => module = Module::default(),
            Payload::TypeSection(section) => {
                for ty in section.into_iter_err_on_gc_types() {
                    let ty = ty?;
                    let results = ty.results().len() as u64;
                    within("results of one function", results, VALUES_MAX)?;
                    module.results_max = module.results_max.max(results);
                    module.parameters.push(ty.params().len() as u64);
                }
            }
            Payload::FunctionSection(section) => {
                sum.functions += u64::from(section.count());
                within("functions", sum.functions, FUNCTIONS_MAX)?;
                module.functions = section.into_iter().collect::<Result<_, _>>()?;
                // Taken from the end as their code comes by.
                module.functions.reverse();
            }
            Payload::CodeSectionEntry(body) => {
                let parameters = module.functions.pop().map_or(0, |ty| module.parameters_of(ty));
                function(&body, parameters, &module, &mut sum)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// What all modules have together.
#[derive(Default)]
struct Sum {
    functions: u64,
    joins: u64,
    transfers: u64,
}

/// What is known of a module by the time its code comes.
#[derive(Default)]
struct Module {
    /// How many parameters each type of a function has.
    parameters: Vec<u64>,
    /// The most results of any of them.
    results_max: u64,
    /// The types of the functions whose code has not come yet, the next one last.
    functions: Vec<u32>,
}

impl Module {
    fn parameters_of(&self, ty: u32) -> u64 {
        self.parameters.get(ty as usize).copied().unwrap_or(0)
    }
}

fn function(body: &FunctionBody<'_>, parameters: u64, module: &Module, sum: &mut Sum) -> Result<(), Bulk> {
    within("bytes of code in one function", body.as_bytes().len() as u64, FUNCTION_MAX)?;
    let mut locals = parameters;
    for group in body.get_locals_reader()? {
        locals += u64::from(group?.0);
    }
    let (mut blocks, mut others) = (0, 0);
    let mut values = module.results_max;
    for operator in body.get_operators_reader()? {
        match operator? {
            Operator::Block { blockty } | Operator::Loop { blockty } | Operator::If { blockty } => {
                blocks += 1;
                if let BlockType::FuncType(ty) = blockty {
                    let taken = module.parameters_of(ty);
                    within("parameters of one block", taken, VALUES_MAX)?;
                    values = values.max(taken);
                }
            }
            Operator::Call { .. } | Operator::CallIndirect { .. } | Operator::Br { .. } | Operator::BrIf { .. } => {
                others += 1;
            }
            Operator::BrTable { targets } => others += u64::from(targets.len()) + 1,
            _ => {}
        }
    }
    let joins = locals.saturating_mul(blocks);
    within("locals times blocks in one function", joins, JOINS_MAX)?;
    let transfers = if values > 1 { values.saturating_mul(blocks + others) } else { 0 };
    within("values handed over in one function", transfers, TRANSFERS_MAX)?;
    sum.joins += joins;
    sum.transfers += transfers;
    within("locals times blocks in all functions", sum.joins, ALL * JOINS_MAX)?;
    within("values handed over in all functions", sum.transfers, ALL * TRANSFERS_MAX)
}

fn within(what: &'static str, found: u64, max: u64) -> Result<(), Bulk> {
    if found > max { Err(Bulk::TooMuch { what, found, max }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(module: &str) -> Result<(), Bulk> {
        super::check(&wat::parse_str(format!("(component {module})")).unwrap())
    }

    fn too_much(what: &'static str, found: u64, max: u64) -> Result<(), Bulk> {
        Err(Bulk::TooMuch { what, found, max })
    }

    #[test]
    fn an_ordinary_component_passes_and_an_unreadable_one_is_told_so() {
        assert_eq!(check("(core module (func (param i32) (local i64) (block (br 0))))"), Ok(()));
        assert!(matches!(super::check(b"\0asm\x0d\0\x01\0garbage"), Err(Bulk::Malformed(_))));
    }

    #[test]
    fn functions_count_over_all_modules_and_nested_components() {
        let module = format!("(core module {})", "(func)".repeat(50_000));
        assert_eq!(check(&format!("{module} (component {module})")), Ok(()));
        let more = format!("{module} (component {module} (core module (func)))");
        assert_eq!(check(&more), too_much("functions", 100_001, FUNCTIONS_MAX));
    }

    #[test]
    fn one_function_has_so_much_code_at_most() {
        let module = |instructions: usize| format!("(core module (func {}))", "nop ".repeat(instructions));
        // The size of its locals and its `end` are two bytes more.
        assert_eq!(check(&module(FUNCTION_MAX as usize - 2)), Ok(()));
        let found = FUNCTION_MAX + 1;
        assert_eq!(
            check(&module(FUNCTION_MAX as usize - 1)),
            too_much("bytes of code in one function", found, FUNCTION_MAX)
        );
    }

    #[test]
    fn parameters_and_locals_are_joined_at_every_block() {
        let module = |locals: usize| {
            let blocks = "(loop (block)) (if (i32.const 0) (then))".repeat(334);
            format!("(core module (func (param i32 i32) (local {}) {blocks}))", "i32 ".repeat(locals))
        };
        assert_eq!(check(&module(3_900)), Ok(()));
        assert_eq!(check(&module(4_000)), too_much("locals times blocks in one function", 4_002 * 1002, JOINS_MAX));
    }

    #[test]
    fn all_functions_together_are_so_many_times_one() {
        let function = format!("(func (local {}) {})", "i32 ".repeat(3_900), "(loop)".repeat(1_000));
        let module = |functions: usize| format!("(core module {})", function.repeat(functions));
        assert_eq!(check(&module(16)), Ok(()));
        assert_eq!(
            check(&module(17)),
            too_much("locals times blocks in all functions", 17 * 3_900_000, ALL * JOINS_MAX)
        );
    }

    #[test]
    fn many_values_at_once_are_refused_wherever_they_come_from() {
        let values = "i32 ".repeat(17);
        let gives = format!("(core module (type (func (result {values}))))");
        assert_eq!(check(&gives), too_much("results of one function", 17, 16));
        let takes =
            format!("(core module (func (param {values})) (func (loop (param {values}) unreachable) unreachable))");
        assert_eq!(check(&takes), too_much("parameters of one block", 17, 16));
        assert_eq!(check(&format!("(core module (func (param {values})))")), Ok(()));
    }

    #[test]
    fn values_handed_over_count_where_there_is_more_than_one_at_a_time() {
        let module = |results: &str, calls: usize| {
            format!("(core module (func $f (result {results}) {} unreachable))", "call $f ".repeat(calls))
        };
        let most = TRANSFERS_MAX as usize / 2;
        assert_eq!(check(&module("i32 i32", most)), Ok(()));
        let found = TRANSFERS_MAX + 2;
        assert_eq!(
            check(&module("i32 i32", most + 1)),
            too_much("values handed over in one function", found, TRANSFERS_MAX)
        );
        assert_eq!(check(&module("i32", most + 1)), Ok(()));
    }
}
