//! What `wit/` says, as Rust types: generated, nothing else. Only the functions that wait on the world are async; the
//! others return without leaving the guest's thread.

#![allow(missing_docs, unreachable_pub, reason = "generated")]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "downbeat:step/plugin",
    imports: {
        "downbeat:step/process.run": async,
        "downbeat:step/items.append": async,
        "downbeat:step/artifacts.put": async | trappable,
        "downbeat:step/artifacts.get": async | trappable,
        "downbeat:step/artifacts.[static]writer.open": async | trappable,
        "downbeat:step/artifacts.[method]writer.write": async | trappable,
        "downbeat:step/artifacts.[static]writer.finish": async | trappable,
        "downbeat:step/artifacts.[drop]writer": trappable,
        "downbeat:step/artifacts.[static]reader.open": async | trappable,
        "downbeat:step/artifacts.[method]reader.size": trappable,
        "downbeat:step/artifacts.[method]reader.read": async | trappable,
        "downbeat:step/artifacts.[drop]reader": trappable,
    },
    exports: { default: async },
    ownership: Borrowing { duplicate_if_necessary: true },
    with: {
        "downbeat:step/artifacts.writer": crate::host::artifacts::Writer,
        "downbeat:step/artifacts.reader": crate::host::artifacts::Reader,
    },
    require_store_data_send: true,
});
