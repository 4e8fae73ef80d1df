{{- define "penstock.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "penstock.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{- /* Sidecars: each runs before the container that needs it starts, and ends after it, so that a Job comes to its end. */ -}}
{{- define "penstock.sidecars" -}}
{{- $security := include "penstock.containerSecurity" . | fromYaml -}}
{{- with .Values.extraContainers }}
initContainers:
  {{- range . }}
  {{- $own := ternary dict $security (hasKey . "securityContext") }}
  {{- toYaml (list (merge (dict "restartPolicy" "Always") . $own)) | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{- /* A Job of one command, which is a hook: it and all it needs come before the release's other objects, and go after it.
Takes root, component, hook, weight, arguments, environment, files, egress, deadlineSeconds, retries, lanes; and of those that
may be left out resources, and keepSeconds, for which the Job and its log stay when it has succeeded. */ -}}
{{- define "penstock.job" -}}
{{- $root := .root -}}
{{- $name := printf "%s-%s" (include "penstock.fullname" $root) .component -}}
{{- $labels := include "penstock.labels" . -}}
{{- $hook := printf "helm.sh/hook: %s\nhelm.sh/hook-delete-policy: before-hook-creation,hook-succeeded" .hook -}}
{{- if $root.Values.serviceAccount.create }}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- $labels | nindent 4 }}
  annotations:
    {{- $hook | nindent 4 }}
    helm.sh/hook-weight: "-10"
    {{- with $root.Values.serviceAccount.annotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
automountServiceAccountToken: false
{{- end }}
{{- if .lanes }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- $labels | nindent 4 }}
  annotations:
    {{- $hook | nindent 4 }}
    helm.sh/hook-weight: "-10"
data:
  {{- toYaml (dict "lanes.toml" $root.Values.lanes.toml) | nindent 2 }}
{{- end }}
{{- if $root.Values.networkPolicy.enabled }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- $labels | nindent 4 }}
  annotations:
    {{- $hook | nindent 4 }}
    helm.sh/hook-weight: "-10"
spec:
  podSelector:
    matchLabels:
      {{- include "penstock.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  egress:
    {{- include "penstock.egress" (dict "root" $root "to" .egress) | nindent 4 }}
{{- end }}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- $labels | nindent 4 }}
  annotations:
    {{- ternary (replace ",hook-succeeded" "" $hook) $hook (hasKey . "keepSeconds") | nindent 4 }}
    helm.sh/hook-weight: {{ .weight | quote }}
spec:
  {{- with .keepSeconds }}
  ttlSecondsAfterFinished: {{ . }}
  {{- end }}
  backoffLimit: {{ .retries }}
  activeDeadlineSeconds: {{ int .deadlineSeconds }}
  template:
    metadata:
      labels:
        {{- include "penstock.podLabels" . | nindent 8 }}
    spec:
      restartPolicy: Never
      serviceAccountName: {{ ternary $name (include "penstock.serviceAccountName" $root) $root.Values.serviceAccount.create }}
      {{- include "penstock.podSecurity" $root | nindent 6 }}
      {{- with include "penstock.sidecars" $root | trim }}
      {{- . | nindent 6 }}
      {{- end }}
      containers:
        - name: {{ .component }}
          image: {{ include "penstock.image" (dict "root" $root "image" $root.Values.image) | quote }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          args: {{ toJson .arguments }}
          {{- include "penstock.containerSecurity" $root | nindent 10 }}
          env:
            - name: PENSTOCK_DEPLOYMENT
              value: {{ include "penstock.deployment" $root | quote }}
            {{- if .lanes }}
            - name: PENSTOCK_LANES_FILE
              value: /etc/penstock/lanes/lanes.toml
            {{- end }}
            {{- .environment | nindent 12 }}
            {{- with $root.Values.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          resources:
            {{- $disk := dict "ephemeral-storage" "64Mi" }}
            {{- $small := dict "requests" (dict "cpu" "50m" "memory" "128Mi") "limits" (dict "memory" "256Mi") }}
            {{- toYaml (merge (deepCopy (default $small .resources)) (dict "requests" $disk "limits" $disk)) | nindent 12 }}
          volumeMounts:
            - name: files
              mountPath: /etc/penstock
              readOnly: true
            {{- with $root.Values.extraVolumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes:
        - name: files
          projected:
            defaultMode: 0440
            {{- $lanes := ternary (include "penstock.lanes.file" $name) "" .lanes }}
            sources:
              {{- printf "%s\n%s" $lanes .files | trim | default "[]" | nindent 14 }}
        {{- with $root.Values.extraVolumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end }}
