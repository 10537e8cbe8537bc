/* The search of the site runs in a worker, which browsers refuse to pages that are opened as files. There an invisible
   frame takes its place: it loads the worker's script, and messages are handed over by hand. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(script) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      this.waiting = [];
      const inside = this.frame.contentWindow;
      inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }));
      const loaded = inside.document.createElement("script");
      loaded.src = script;
      loaded.onload = () => { this.waiting.forEach(data => this.deliver(data)); this.waiting = null; };
      inside.document.head.append(loaded);
    }
    deliver(data) { this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })); }
    postMessage(data) { this.waiting ? this.waiting.push(data) : this.deliver(data); }
    terminate() { this.frame.remove(); }
  };
}
