// The host in memory, for tests that run on Node.js.

export const lines = [];
export const reports = [];

export function write(level, message) {
  lines.push(`${level}: ${message}`);
}

export function report(done, total, message) {
  reports.push({ done, total, message });
}
