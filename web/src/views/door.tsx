// The door: asks once for the token. The server keeps it in a cookie that scripts can't read.

import { useRef, useState } from "preact/hooks";
import { type ApiError, asApiError, post } from "../api";
import { refreshSession } from "../store";
import { Button, Failure } from "../ui/bits";
import { Logo } from "../ui/icons";

export function Door() {
  const field = useRef<HTMLInputElement>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const [busy, setBusy] = useState(false);
  const enter = async () => {
    setBusy(true);
    setError(null);
    try {
      await post("/v1/session", { token: field.current!.value.trim() });
      await refreshSession();
    } catch (reason) {
      setError(asApiError(reason));
      field.current?.select();
    } finally {
      setBusy(false);
    }
  };
  return (
    <main class="door">
      <form onSubmit={(event) => { event.preventDefault(); void enter(); }}>
        <Logo size={44} />
        <h1>This server asks for a token</h1>
        <p class="muted">Whoever started it has the token. It is asked for once in this browser.</p>
        <input type="text" name="username" autocomplete="username" value="openxclip" hidden readOnly />
        <label for="token">Token</label>
        <input ref={field} id="token" type="password" autocomplete="current-password" required autofocus />
        {error && <Failure error={error} />}
        <Button kind="primary" submit disabled={busy} class="wide">{busy ? "Checking" : "Enter"}</Button>
      </form>
    </main>
  );
}
